"""The most that one caller, or all together, may take of a server; each wire says so in its way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import ClientConnection, connect

from server.app.core import core_of
from server.config.limits import HttpLimits, RpcLimits, TurnLimits
from server.core.access.auth import Auth, configured
from server.core.clock import microseconds
from server.core.conversations import Conversations, Defaults
from server.core.errors import RateLimitedError
from server.core.turns.questions import Ask, IfBusy
from server.upstream.port import Upstream
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.transports.grpc import grpc_client
from tests.server.transports.openai.openai_client import error_of, passing
from tests.server.transports.rest.http_client import (
    connected,
    refused,
    request,
    serving,
    serving_anew,
    talking,
)
from tests.server.transports.websocket.websocket_client import TRY_LATER
from tests.storage.nouns import ADA, BOB
from tests.support.access import bearing
from tests.support.fakes import Parrot, Puppet
from tests.support.live import Served, serve


def auth(**most: Any) -> Auth:
    keys = configured("ada:key-of-ada,ada:her-other-key,bob:key-of-bob")
    return Auth(keys, None, microseconds, open_to_all=False, public=False, **most)


@asynccontextmanager
async def watching(served: Served, key: str, conversation_id: str = "c1") -> AsyncIterator[Any]:
    """Hold a gRPC call open."""
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        asked = pb.WatchConversationRequest(conversation_id=conversation_id)
        metadata = grpc_client.bearing(key)
        call = grpc_client.stub(channel).WatchConversation(asked, metadata=metadata)
        await call.initial_metadata()
        yield call
        call.cancel()


def socket(served: Served, key: str = "key-of-ada") -> connect:
    return connect(served.websocket, additional_headers=bearing(key), proxy=None)


def followers(core: Conversations) -> int:
    """Return how many follow a turn that runs."""
    found = re.search(rb"^trialogue_followers (\d+)", core.metrics.render(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def ends_with(connection: ClientConnection) -> int | None:
    await connection.wait_closed()
    return connection.close_code


class TestByKey:
    @pytest.fixture
    async def served(self, store: SQLiteStore) -> AsyncIterator[Served]:
        async with serve(store, Parrot(), auth=auth(most_by_key=2)) as server:
            await server.conversations.create(ADA, id="c1")
            await server.conversations.create(BOB, id="c1")
            yield server

    async def test_all_wires_count_together(self, served: Served) -> None:
        ada = bearing("key-of-ada")
        async with (
            talking(served.http) as client,
            socket(served) as first,
            watching(served, "her-other-key"),
        ):
            assert await first.recv()
            late = await client.get("/conversations", headers=ada)
            refused(late, 429, "rate_limit_exceeded")
            async with socket(served) as second:
                assert await ends_with(second) == TRY_LATER
            async with grpc.aio.insecure_channel(served.grpc) as channel:
                call = grpc_client.stub(channel).ListConversations(
                    pb.ListConversationsRequest(), metadata=grpc_client.bearing("key-of-ada")
                )
                told = await grpc_client.refusal(call)
            assert (told.reason, told.code.name) == ("RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED")
            bobs = await client.get("/conversations", headers=bearing("key-of-bob"))
            assert bobs.status_code == 200
            assert (await client.get("/healthz")).status_code == 200

    async def test_who_leaves_makes_room(self, served: Served) -> None:
        async with talking(served.http, headers=bearing("key-of-ada")) as client:
            for _ in range(5):
                async with socket(served) as one, socket(served) as other:
                    assert await one.recv()
                    assert await other.recv()
                await self._room(served)
                assert (await client.get("/conversations")).status_code == 200

    async def _room(self, served: Served) -> None:
        """Wait until the server has noticed that all have left."""
        async with talking(served.http, headers=bearing("key-of-ada")) as client:
            while (await client.get("/conversations")).status_code != 200:
                await asyncio.sleep(0.01)

    async def test_a_key_shown_later_is_counted(self, served: Served) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                one = await stack.enter_async_context(socket(served))
                await one.recv()
            stranger = await stack.enter_async_context(connect(served.websocket, proxy=None))
            await stranger.send('{"type": "authenticate", "api_key": "key-of-ada"}')
            assert await ends_with(stranger) == TRY_LATER


class TestByAddress:
    @pytest.fixture
    async def served(self, store: SQLiteStore) -> AsyncIterator[Served]:
        async with serve(store, Parrot(), auth=auth(most_by_address=2)) as server:
            await server.conversations.create(ADA, id="c1")
            yield server

    async def test_strangers_count_too_on_every_wire(self, served: Served) -> None:
        port = int(served.http.rpartition(":")[2])
        async with connected(port) as silent, socket(served) as first:
            assert await first.recv()
            async with connected(port) as third:
                await third.send(request("GET", "/healthz"))
                reply = await third.reply()
                assert (reply.status, reply.headers["retry-after"]) == (429, "1")
                assert await third.closed() == b""
            async with socket(served) as fourth:
                assert await ends_with(fourth) == TRY_LATER
            async with grpc.aio.insecure_channel(served.grpc) as channel:
                call = grpc_client.stub(channel).ListConversations(
                    pb.ListConversationsRequest(), metadata=grpc_client.bearing("key-of-ada")
                )
                assert (await grpc_client.refusal(call)).reason == "RATE_LIMIT_EXCEEDED"
            await silent.send(request("GET", "/healthz"))
            assert (await silent.reply()).status == 200

    async def test_who_leaves_makes_room(self, served: Served) -> None:
        port = int(served.http.rpartition(":")[2])
        for _ in range(10):
            async with connected(port) as wire:
                status = 429
                while status != 200:
                    async with connected(port) as other:
                        await other.send(request("GET", "/healthz"))
                        status = (await other.reply()).status
                await wire.send(request("GET", "/healthz"))
                await wire.reply()


class TestInAll:
    async def test_http_connections(self, conversations: Conversations) -> None:
        async with (
            serving(conversations, limits=HttpLimits(connections=1)) as served,
            connected(served.port) as first,
        ):
            await first.send(request("GET", "/healthz"))
            assert (await first.reply()).status == 200
            async with connected(served.port) as second:
                await second.send(request("GET", "/healthz"))
                assert (await second.reply()).status == 429
                assert await second.closed() == b""
            await first.send(request("GET", "/healthz"))
            assert (await first.reply()).status == 200

    async def test_a_flood_of_http_connections_is_cut(self, conversations: Conversations) -> None:
        async with (
            serving(conversations, limits=HttpLimits(connections=1, head_seconds=600)) as served,
            AsyncExitStack() as stack,
        ):
            many = [await stack.enter_async_context(connected(served.port)) for _ in range(70)]
            assert await many[-1].closed() == b""

    async def test_grpc_connections(self, tmp_path: Path) -> None:
        async with (
            grpc_client.serving(tmp_path, Parrot(), limits=RpcLimits(connections=1)) as served,
            served.channel() as channel,
        ):
            asked = pb.ListConversationsRequest()
            await grpc_client.stub(channel).ListConversations(asked)
            with grpc_client.RawPeer(served.listener.port) as second:
                second.read_goaway()
            await grpc_client.stub(channel).ListConversations(asked)

    async def test_grpc_calls(self, tmp_path: Path) -> None:
        limits = RpcLimits(calls=1)
        async with (
            grpc_client.serving(tmp_path, Puppet(), limits=limits) as served,
            served.channel() as channel,
        ):
            stub = grpc_client.stub(channel)
            running = stub.Ask(pb.AskRequest(conversation_id="c", prompt="Hello"))
            await running.read()
            refused = await grpc_client.refusal(
                stub.ListConversations(pb.ListConversationsRequest())
            )
            assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    async def test_a_grpc_connection_without_calls_is_closed(self, tmp_path: Path) -> None:
        limits = RpcLimits(idle_seconds=0.1)
        async with grpc_client.serving(tmp_path, Parrot(), limits=limits) as served:
            with grpc_client.RawPeer(served.listener.port) as idle:
                await asyncio.to_thread(idle.read_goaway)


class TestTurns:
    @asynccontextmanager
    async def core(
        self, store: SQLiteStore, upstream: Upstream, limits: TurnLimits
    ) -> AsyncIterator[Conversations]:
        async with core_of(store, upstream, Defaults("gpt-4o", limits=limits)) as opened:
            yield opened

    async def test_in_all(self, store: SQLiteStore, upstream: Puppet) -> None:
        async with self.core(store, upstream, TurnLimits(running=2)) as core:
            first = await core.ask(ADA, "a", Ask("Hello"))
            await core.ask(BOB, "b", Ask("Hello"))
            for how in IfBusy:
                with pytest.raises(RateLimitedError, match="2 turns are running"):
                    await core.ask(ADA, "c", Ask("Hello", if_busy=how))
            await core.cancel(ADA, first.id)
            await core.ask(ADA, "c", Ask("Hello"))

    async def test_by_key(self, store: SQLiteStore, upstream: Puppet) -> None:
        async with self.core(store, upstream, TurnLimits(running_per_key=1)) as core:
            await core.ask(ADA, "a", Ask("Hello"))
            with pytest.raises(RateLimitedError, match="1 turns of this key"):
                await core.ask(ADA, "b", Ask("Hello"))
            await core.ask(BOB, "b", Ask("Hello"))
            with pytest.raises(NotFoundError):
                await core.get(ADA, "b")

    async def test_who_waits_takes_over_the_place(
        self, store: SQLiteStore, upstream: Puppet
    ) -> None:
        async with self.core(store, upstream, TurnLimits(running=1)) as core:
            first = await core.ask(ADA, "a", Ask("One"))
            waiting = asyncio.create_task(core.ask(ADA, "a", Ask("Two")))
            interrupting = asyncio.create_task(
                core.ask(ADA, "a", Ask("Three", if_busy=IfBusy.INTERRUPT))
            )
            third = await interrupting
            await core.cancel(ADA, third.id)
            await core.cancel(ADA, (await waiting).id)
            assert (await core.turn(ADA, first.id)).status == "cancelled"

    async def test_a_conversation_can_be_deleted_though_all_run(
        self, store: SQLiteStore, upstream: Puppet
    ) -> None:
        async with self.core(store, upstream, TurnLimits(running=1)) as core:
            await core.create(ADA, id="old")
            await core.ask(ADA, "a", Ask("One"))
            await core.delete(ADA, "old")


class TestSlowReaders:
    async def test_over_http_one_that_reads_nothing_is_cut(self, tmp_path: Path) -> None:
        puppet = Puppet()
        async with (
            serving_anew(tmp_path, puppet) as patient,
            serving(patient.conversations, limits=HttpLimits(patience=0.1)) as served,
            connected(served.port) as wire,
        ):
            await wire.send(request("POST", "/ask/c1", b'{"prompt": "x", "stream": true}'))
            await wire.until(b"\r\n\r\n")
            while followers(served.conversations):
                puppet.say("word " * 20_000)
                await asyncio.sleep(0.01)
            puppet.finish()

    async def test_over_grpc_one_that_takes_nothing_is_cut(self, tmp_path: Path) -> None:
        puppet = Puppet()
        limits = RpcLimits(patience=0.1)
        async with (
            grpc_client.serving(tmp_path, puppet, limits=limits) as served,
            # Else its window would grow with what it is sent.
            grpc.aio.insecure_channel(
                served.address, options=[("grpc.http2.bdp_probe", 0)]
            ) as channel,
        ):
            asked = pb.AskRequest(conversation_id="c1", prompt="x")
            call = grpc_client.stub(channel).Ask(asked)
            await call.read()
            while followers(served.conversations):
                puppet.say("word " * 20_000)
                await asyncio.sleep(0.01)
            puppet.finish()


class TestDepth:
    @pytest.mark.parametrize("deep", [199, 500, 990, 5_000, 100_000])
    async def test_a_body_of_v1(self, tmp_path: Path, deep: int) -> None:
        async with passing(tmp_path) as (served, upstream):
            nested = b"[" * deep + b"]" * deep
            body = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], '
            body += b'"store": true, "tools": %b}' % nested
            response = await served.client.post("/v1/chat/completions", content=body)
            if deep < 200:
                assert response.status_code == 200
                return
            error_of(response, 400)
            assert upstream.requests == []

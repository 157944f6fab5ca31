"""Turns and calls of one key leave room for those of another, on every wire and under `/v1`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import connect

from server.config.limits import HttpLimits, RpcLimits, UpstreamLimits, WebsocketLimits
from server.core.conversations import Ask, Conversations
from storage.sqlite.store import SQLiteStore
from tests.server.transports.grpc import grpc_client
from tests.server.transports.openai.openai_client import Served as Facade
from tests.server.transports.openai.openai_client import error_of, passing
from tests.server.transports.rest import http_client
from tests.server.transports.rest.http_client import connected, refused, request, talking
from tests.server.transports.websocket import websocket_client
from tests.server.transports.websocket.websocket_client import TRY_LATER, Peer
from tests.support.access import CODE, bearing, locked
from tests.support.fakes import Puppet
from tests.support.live import Served, serve
from tests.support.upstream_script import hang
from tests.support.upstream_server import ScriptedUpstream

DOORS = locked("ada:key-of-ada,bob:key-of-bob")
ADA, BOB = bearing("key-of-ada"), bearing("key-of-bob")
#: Two places: one for each.
TWO = UpstreamLimits(answers=2)
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


class TestAsks:
    """One key's turn runs; no second one begins, and another key's does."""

    @pytest.fixture
    async def served(self, store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
        async with serve(store, upstream, auth=DOORS, at_once=TWO) as server:
            await server.conversations.ask("ada", "a", Ask("Hello"))
            await upstream.asked(1)
            yield server

    async def test_over_rest(self, served: Served, upstream: Puppet) -> None:
        async with talking(served.http, headers=ADA) as ada:
            late = await ada.post("/ask/late", json={"prompt": "Hello"})
            error = refused(late, 429, CODE)
            assert late.headers["retry-after"] == "1"
            assert error["message"].startswith("This key has 1 of 2 places for turns and calls")
            refused(await ada.get("/conversations/late"), 404, "not_found")
        async with talking(served.http, headers=BOB) as bob:
            asking = asyncio.create_task(bob.post("/ask/b", json={"prompt": "Hello"}))
            await upstream.asked(2)
            upstream.answer("to bob")
            assert (await asking).json()["answer"] == "to bob"

    async def test_over_the_websocket(self, served: Served, upstream: Puppet) -> None:
        asked = {"conversation_id": "late", "prompt": "Hello"}
        async with connect(served.websocket, additional_headers=ADA, proxy=None) as socket:
            ada = Peer(socket)
            await ada.hear()
            await ada.say("ask", **asked)
            told = await ada.refusal()
            assert (told["code"], told["retry_after"]) == (CODE, 1)
            await ada.say("ping")
            assert (await ada.hear())["type"] == "pong"
        async with connect(served.websocket, additional_headers=BOB, proxy=None) as socket:
            bob = Peer(socket)
            await bob.hear()
            await bob.say("ask", **asked)
            await upstream.asked(2)
            upstream.answer("to bob")
            assert websocket_client.said(await bob.hear_to_the_end()) == "to bob"

    async def test_over_grpc(self, served: Served, upstream: Puppet) -> None:
        asked = pb.AskRequest(conversation_id="late", prompt="Hello")
        async with grpc.aio.insecure_channel(served.grpc) as channel:
            ask = grpc_client.stub(channel).Ask
            told = await grpc_client.refusal(
                ask(asked, metadata=grpc_client.bearing("key-of-ada")).read()
            )
            assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (told.reason, told.retry_after) == (CODE.upper(), 1)
            call = ask(asked, metadata=grpc_client.bearing("key-of-bob"))
            await upstream.asked(2)
            upstream.answer("to bob")
            assert grpc_client.text(await grpc_client.heard(call)) == "to bob"


class TestCalls:
    """One key's call under `/v1` is being answered; neither a second nor a turn is."""

    @pytest.fixture
    async def served(self, tmp_path: Path) -> AsyncIterator[tuple[Facade, ScriptedUpstream]]:
        async with passing(tmp_path, DOORS, at_once=TWO) as (facade, upstream):
            upstream.script(hang())
            first = asyncio.create_task(
                facade.client.post("/v1/chat/completions", json=CHAT, headers=ADA)
            )
            await upstream.request()
            yield facade, upstream
            first.cancel()

    @pytest.mark.parametrize(
        ("path", "body", "more"),
        [
            ("/chat/completions", CHAT, {}),
            ("/chat/completions", {**CHAT, "stream": True}, {}),
            ("/chat/completions", CHAT, {"x-conversation-id": "late"}),
            ("/completions", {"model": "davinci-002", "prompt": "Hello"}, {}),
            ("/embeddings", {"model": "text-embedding-3-small", "input": "Hello"}, {}),
            ("/responses", {"model": "gpt-4o-mini", "input": "Hello"}, {}),
        ],
    )
    async def test_the_next_is_refused_in_openais_words(
        self,
        served: tuple[Facade, ScriptedUpstream],
        path: str,
        body: dict[str, Any],
        more: dict[str, str],
    ) -> None:
        facade, upstream = served
        late = await facade.client.post(f"/v1{path}", json=body, headers={**ADA, **more})
        error_of(late, 429, CODE)
        assert late.headers["retry-after"] == "1"
        assert len(upstream.requests) == 1
        refused(await facade.client.get("/conversations/late", headers=ADA), 404, "not_found")

    async def test_openais_own_client_knows_the_error(
        self, served: tuple[Facade, ScriptedUpstream]
    ) -> None:
        client = served[0].openai.with_options(api_key="key-of-ada")
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]
            )

    async def test_another_key_and_a_turn_of_its_own_find_a_place(
        self, served: tuple[Facade, ScriptedUpstream]
    ) -> None:
        facade, _ = served
        url = "/v1/chat/completions"
        for headers in (BOB, {**BOB, "x-conversation-id": "c"}):
            # The turn's own call takes no second place.
            answered = await facade.client.post(url, json=CHAT, headers=headers)
            assert answered.status_code == 200, answered.text


class TestConnections:
    """What a key holds open of a wire leaves some for others; nobody is kept waiting there."""

    async def test_over_http(self, tmp_path: Path) -> None:
        puppet = Puppet()
        async with (
            http_client.serving_anew(tmp_path, puppet) as anew,
            http_client.serving(anew.conversations, DOORS, limits=HttpLimits(connections=3)) as at,
            talking(f"http://127.0.0.1:{at.port}", headers=ADA) as ada,
            connected(at.port) as wire,
        ):
            asking = asyncio.create_task(ada.post("/ask/a", json={"prompt": "Hello"}))
            await puppet.asked(1)
            also = asyncio.create_task(ada.post("/ask/b", json={"prompt": "Hello"}))
            await puppet.asked(2)
            key = "Authorization: Bearer key-of-"
            await wire.send(request("GET", "/conversations", b"", f"{key}ada"))
            late = await wire.reply()
            assert (late.status, late.headers["connection"]) == (429, "close")
            assert json.loads(late.body)["error"]["code"] == CODE
            assert await wire.closed() == b""
            async with connected(at.port) as other:
                await other.send(request("GET", "/healthz"))
                assert (await other.reply()).status == 200
                await other.send(request("GET", "/conversations", b"", f"{key}bob"))
                assert (await other.reply()).status == 200
            asking.cancel()
            also.cancel()

    async def test_over_the_websocket(self, conversations: Conversations) -> None:
        limits = WebsocketLimits(connections=2)
        async with (
            websocket_client.serving(conversations, DOORS, limits=limits) as served,
            served.peer(additional_headers=ADA),
            served.stranger(additional_headers=ADA) as second,
            served.peer(additional_headers=BOB) as bob,
        ):
            assert await second.close_code() == TRY_LATER
            await bob.say("ping")
            assert (await bob.hear())["type"] == "pong"

    async def test_over_grpc(self, tmp_path: Path) -> None:
        limits = RpcLimits(calls=3)
        async with (
            grpc_client.serving(tmp_path, Puppet(), DOORS, limits=limits) as served,
            served.channel() as channel,
        ):
            stub = grpc_client.stub(channel)
            metadata = grpc_client.bearing("key-of-ada")
            held = [
                stub.Ask(pb.AskRequest(conversation_id=name, prompt="Hello"), metadata=metadata)
                for name in ("a", "b")
            ]
            for call in held:
                await call.read()
            asked = pb.ListConversationsRequest()
            told = await grpc_client.refusal(stub.ListConversations(asked, metadata=metadata))
            assert (told.code, told.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                CODE.upper(),
            )
            await stub.ListConversations(asked, metadata=grpc_client.bearing("key-of-bob"))

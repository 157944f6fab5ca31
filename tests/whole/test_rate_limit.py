"""One rate over every wire together: counted once a request, refused in each wire's own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import connect

from server.config.quantities import Rate
from server.core.access.auth import Auth, configured
from server.core.access.rate import RateLimit
from server.core.clock import microseconds
from storage.sqlite.store import SQLiteStore
from tests.server.transports.grpc import grpc_client
from tests.server.transports.openai.openai_client import error_of, passing
from tests.server.transports.rest.http_client import refused, talking
from tests.server.transports.websocket.websocket_client import Peer
from tests.support.access import bearing
from tests.support.fakes import Clock, Parrot
from tests.support.live import Served, serve
from tests.support.upstream_script import say
from tests.support.wires import WIRES, RefusedError

KEYS = "ada:key-of-ada,ada:her-other-key,bob:key-of-bob"
MOST = 6


@pytest.fixture
def auth(clock: Clock) -> Auth:
    """Doors that let six requests an hour through."""
    limit = RateLimit(Rate(MOST, 3600), clock)
    keys = configured(KEYS)
    return Auth(keys, None, microseconds, open_to_all=False, public=False, rate=limit)


@pytest.fixture
async def served(store: SQLiteStore, auth: Auth) -> AsyncIterator[Served]:
    async with serve(store, Parrot(), auth=auth) as server:
        yield server


async def ask(served: Served, wire: str, key: str = "key-of-ada") -> str:
    """Ask by a wire, to the end; return the turn's id."""
    async with aclosing(WIRES[wire](served, key).ask("c1", "Hello")) as events:
        return [event async for event in events][-1].turn_id


async def test_all_wires_take_of_one_allowance(served: Served, clock: Clock) -> None:
    for wire in (*WIRES, *WIRES):
        await ask(served, wire)
    for wire in WIRES:
        with pytest.raises(RefusedError) as caught:
            await ask(served, wire)
        assert caught.value.code == "rate_limit_exceeded"
    clock.now += 600
    await ask(served, "grpc")
    with pytest.raises(RefusedError):
        await ask(served, "rest")


async def test_it_is_by_owner_whichever_key_is_shown(served: Served) -> None:
    for _ in range(MOST):
        await ask(served, "rest", "her-other-key")
    with pytest.raises(RefusedError):
        await ask(served, "websocket")
    await ask(served, "rest", "key-of-bob")


async def test_following_watching_and_cancelling_are_free(served: Served) -> None:
    turn_id = await ask(served, "rest")
    for _ in range(MOST):
        for wire in WIRES.values():
            ada = wire(served, "key-of-ada")
            async with aclosing(ada.follow(turn_id)) as events:
                assert [event async for event in events][-1].kind == "turn.ended"
            await ada.cancel(turn_id)
    async with talking(served.http, headers=bearing("key-of-ada")) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
        left = await client.get("/conversations")
    assert left.headers["x-ratelimit-remaining-requests"] == str(MOST - 2)


async def test_what_is_left_is_told_on_every_answer(served: Served) -> None:
    async with talking(served.http, headers=bearing("key-of-ada")) as client:
        found = await client.get("/conversations/none")
        assert found.status_code == 404
        headers = {k: v for k, v in found.headers.items() if k.startswith("x-ratelimit")}
        assert headers == {
            "x-ratelimit-limit-requests": "6",
            "x-ratelimit-remaining-requests": "5",
            "x-ratelimit-reset-requests": "10m0s",
        }
        for _ in range(MOST - 1):
            assert (await client.get("/conversations")).status_code == 200
        late = await client.get("/conversations")
        refused(late, 429, "rate_limit_exceeded")
        assert late.headers["retry-after"] == "600"
        assert late.headers["x-ratelimit-remaining-requests"] == "0"
        assert late.headers["x-ratelimit-reset-requests"] == "1h0m0s"
        assert "x-ratelimit-limit-requests" not in (await client.get("/healthz")).headers


async def test_grpc_tells_when_to_try_again(served: Served) -> None:
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        stub = grpc_client.stub(channel)
        metadata = grpc_client.bearing("key-of-ada")
        call = stub.ListConversations(pb.ListConversationsRequest(), metadata=metadata)
        await call
        trailers = dict(await call.trailing_metadata())
        assert trailers["x-ratelimit-remaining-requests"] == "5"
        for _ in range(MOST - 1):
            await stub.ListConversations(pb.ListConversationsRequest(), metadata=metadata)
        late = stub.ListConversations(pb.ListConversationsRequest(), metadata=metadata)
        told = await grpc_client.refusal(late)
    assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (told.reason, told.retry_after) == ("RATE_LIMIT_EXCEEDED", 600)
    assert told.trailers["x-ratelimit-reset-requests"] == "1h0m0s"


async def test_a_websocket_stays_open_when_it_is_refused(served: Served, clock: Clock) -> None:
    headers = bearing("key-of-ada")
    async with connect(served.websocket, additional_headers=headers, proxy=None) as socket:
        peer = Peer(socket)
        assert (await peer.hear())["type"] == "welcome"
        for _ in range(MOST):
            await peer.say("conversations")
            assert (await peer.hear())["type"] == "conversations"
        await peer.say("ask", prompt="Hello", request_id="late")
        error = await peer.refusal()
        assert (error["code"], error["request_id"]) == ("rate_limit_exceeded", "late")
        assert error["retry_after"] == 600
        await peer.say("ping")
        assert (await peer.hear())["type"] == "pong"
        await peer.write("<|ask|>$c1$Hello")
        assert await peer.read() == "<|err|>"
        clock.now += 600
        await peer.say("conversations")
        assert (await peer.hear())["type"] == "conversations"


async def test_where_nobody_shows_a_key_all_share_one_allowance(
    store: SQLiteStore, clock: Clock
) -> None:
    limit = RateLimit(Rate(2, 3600), clock)
    auth = Auth([], None, microseconds, open_to_all=True, public=False, rate=limit)
    async with serve(store, Parrot(), auth=auth) as served:
        for wire in ("rest", "websocket"):
            await ask(served, wire, "")
        with pytest.raises(RefusedError):
            await ask(served, "grpc", "")


async def test_a_page_of_another_origin_takes_nothing(served: Served) -> None:
    async with talking(served.http, headers=bearing("key-of-ada")) as client:
        for _ in range(MOST):
            foreign = await client.get("/conversations", headers={"origin": "http://evil.example"})
            assert foreign.status_code == 403
        assert (await client.get("/conversations")).status_code == 200


async def test_v1_counts_and_refuses_in_openais_words(tmp_path: Path, auth: Auth) -> None:
    body: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    async with passing(tmp_path, auth) as (served, upstream):
        headers = bearing("key-of-ada")
        for left in reversed(range(MOST)):
            upstream.script(say("Hello"))
            answer = await served.client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        late = await served.client.post("/v1/chat/completions", json=body, headers=headers)
        assert error_of(late, 429, "rate_limit_exceeded")["message"]
        assert late.headers["retry-after"] == "600"
        assert late.headers["x-ratelimit-limit-requests"] == str(MOST)
        assert len(upstream.requests) == MOST

"""What the log tells of requests and turns: one line each, under the caller's own request id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.live import Fork, Process
from tests.support.upstream_script import MODEL
from tests.support.upstream_server import ScriptedUpstream

KEY = "a-key-of-ann-0123456789"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
UNFIT = ["x" * 129, "two words", "\N{LATIN SMALL LETTER E WITH ACUTE}"]


@dataclass(frozen=True)
class Caller:
    """Somebody with a key, on every wire; each call returns the request id that it was told."""

    at: Process
    key: str = KEY

    async def post(self, path: str, body: Any, request_id: str) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.key}", "x-request-id": request_id}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        async with httpx2.AsyncClient(base_url=self.at.http, timeout=60, verify=False) as client:
            return await client.post(path, json=body, headers=raw)

    async def rest(self, request_id: str) -> str:
        response = await self.post("/ask/rest", {"prompt": "Hello"}, request_id)
        return response.headers["x-request-id"]

    async def sse(self, request_id: str) -> str:
        response = await self.post("/ask/sse", {"prompt": "Hello", "stream": True}, request_id)
        return response.headers["x-request-id"]

    async def v1(self, request_id: str) -> str:
        response = await self.post("/v1/chat/completions", CHAT, request_id)
        return response.headers["x-request-id"]

    async def rpc(self, request_id: str) -> str:
        told = [("authorization", f"Bearer {self.key}"), ("x-request-id", request_id)]
        async with grpc.aio.insecure_channel(self.at.grpc) as channel:
            stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
            call = stub.Ask(pb.AskRequest(conversation_id="grpc", prompt="Hello"), metadata=told)
            try:
                async for _ in call:
                    pass
            except grpc.aio.AioRpcError:
                pass
            return str(dict(await call.trailing_metadata())["x-request-id"])

    async def frame(self, request_id: str) -> str | None:
        """Return what the answer repeats; None where nobody is let in."""
        headers = {"authorization": f"Bearer {self.key}"}
        async with connect(self.at.websocket, additional_headers=headers, proxy=None) as socket:
            frame = {"type": "ask", "conversation_id": "frame", "prompt": "Hello"}
            await socket.send(json.dumps({**frame, "request_id": request_id}))
            async for message in socket:
                said = json.loads(message)
                if said["type"] in ("turn.ended", "error"):
                    repeated: str | None = said.get("request_id")
                    return repeated
        return None


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Process, ScriptedUpstream]]:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        env = {
            "OPENAI_BASE_URL": upstream.base_url,
            "TRIALOGUE_MODEL": MODEL,
            "TRIALOGUE_API_KEYS": f"ann:{KEY}",
        }
        async with Fork(folder, env=env) as server:
            yield server, upstream


async def lines(server: Process) -> list[dict[str, Any]]:
    """End a server in good order and return all that it wrote to its log."""
    server.terminate()
    assert await server.ended() == 0
    return [json.loads(line) for line in server.log.splitlines()]


def of(found: list[dict[str, Any]], event: str, request_id: str) -> dict[str, Any]:
    """Return the one line of a kind that a request has."""
    (line,) = [one for one in found if (one["event"], one.get("request_id")) == (event, request_id)]
    return line


async def test_a_request_and_its_turn_have_a_line_each_under_the_callers_id(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (server, upstream):
        ann = Caller(server)
        for ask in (ann.rest, ann.sse, ann.rpc, ann.frame, ann.v1):
            assert await ask(f"id-{ask.__name__}") == f"id-{ask.__name__}"
        found = await lines(server)
    wires = {"rest": "rest", "sse": "rest", "rpc": "grpc", "frame": "websocket"}
    for name, wire in wires.items():
        request, turn = (of(found, event, f"id-{name}") for event in ("request", "turn ended"))
        assert (request["wire"], turn["wire"]) == (wire, wire)
        assert (request["owner"], turn["owner"]) == ("ann", "ann")
        for told in ("conversation", "turn", "prompt_tokens", "completion_tokens", "first_ms"):
            assert request[told] == turn[told], told
        assert (turn["status"], turn["completion_tokens"]) == ("completed", 7)
    statuses = [of(found, "request", f"id-{name}")["status"] for name in wires]
    assert statuses == [200, 200, "OK", "ok"]
    straight = of(found, "request", "id-v1")
    assert (straight["wire"], straight["status"], straight["owner"]) == ("openai", 200, "ann")
    asked = [request.headers.get("x-client-request-id") for request in upstream.requests]
    assert asked == ["id-rest", "id-sse", "id-rpc", "id-frame", "id-v1"]


async def test_an_id_that_is_not_fit_to_be_shown_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        ann = Caller(server)
        for unfit in UNFIT:
            assert (await ann.rest(unfit)).startswith("req_")
            assert await ann.frame(unfit) == unfit  # told as it came, but not to the log
        for unfit in UNFIT[:2]:  # gRPC's metadata is ASCII
            assert (await ann.rpc(unfit)).startswith("req_")
        found = await lines(server)
    ids = [one["request_id"] for one in found if one["event"] == "request"]
    assert len(ids) == len(set(ids)) == 2 * len(UNFIT) + 2 + len(UNFIT)  # opening is one too
    assert all(one.startswith("req_") for one in ids)


async def test_what_is_refused_has_a_line_that_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        nobody = Caller(server, "no-key-at-all")
        for ask in (nobody.rest, nobody.rpc, nobody.v1):
            await ask(f"id-{ask.__name__}")
        with suppress(ConnectionClosed):  # before the frame is sent, or after
            assert await nobody.frame("unheard") is None
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            unknown: Any = channel.unary_unary("/no.Such/Method")
            with pytest.raises(grpc.aio.AioRpcError):
                await unknown(b"")
        headers = {"authorization": f"Bearer {KEY}"}
        async with connect(server.websocket, additional_headers=headers, proxy=None) as socket:
            await socket.send('{"type": "nonsense", "request_id": "id-frame"}')
            assert [json.loads(await socket.recv())["type"] for _ in range(2)][-1] == "error"
            await socket.send('{"type": "follow", "turn_id": "turn_0", "request_id": "id-none"}')
            await socket.recv()
        found = await lines(server)
    told = {
        name: of(found, "request", f"id-{name}") for name in ("rest", "rpc", "v1", "frame", "none")
    }
    assert {name: line["status"] for name, line in told.items()} == {
        "rest": 401,
        "rpc": "UNAUTHENTICATED",
        "v1": 401,
        "frame": "invalid_request",
        "none": "not_found",
    }
    others = [one for one in found if one["event"] == "request" and one not in told.values()]
    assert {(one["wire"], one.get("route"), one["status"]) for one in others} == {
        ("websocket", "open", "invalid_api_key"),
        ("websocket", "open", "ok"),
        ("grpc", None, "UNIMPLEMENTED"),
    }


async def test_nothing_is_left_of_a_request_for_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        async with httpx2.AsyncClient(base_url=server.http, timeout=60, verify=False) as client:
            headers = {"authorization": f"Bearer {KEY}"}
            for request_id in ("first", "second"):
                named = {**headers, "x-request-id": request_id}
                await client.post(f"/ask/{request_id}", json={"prompt": "x"}, headers=named)
            await client.get("/healthz")
        found = await lines(server)
    assert [of(found, "turn ended", one)["conversation"] for one in ("first", "second")] == [
        "first",
        "second",
    ]
    (health,) = [one for one in found if one.get("route") == "/healthz"]
    assert health["request_id"].startswith("req_")
    assert "turn" not in health
    assert all("request_id" not in one for one in found if one["event"] in ("draining", "closed"))

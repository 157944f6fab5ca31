"""A websocket's port as HTTP's clients meet it: errors in the shape of all others, request ids."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.http11 import Response

from server.transports.websocket.handshake import complete
from tests.server.transports.rest.http_client import connected, refused, talking
from tests.server.transports.websocket.websocket_client import Served
from tests.support.raw_websocket import PING, TEXT, closing, frame, handshake

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    async with talking(f"http://127.0.0.1:{served.listener.port}") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 426),
        ("GET", {**UPGRADE, "Sec-WebSocket-Key": "short"}, 400),
        ("GET", {**UPGRADE, "Sec-WebSocket-Version": "12"}, 426),
        ("PUT", {"Content-Length": "0"}, 405),
        ("GET", {"X-Long": "x" * 9000}, 431),
    ],
)
async def test_an_http_request_is_refused_in_the_shape_of_all_errors(
    client: httpx2.AsyncClient, method: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.request(method, "/", headers=headers)
    error = refused(answer, status, "invalid_request")
    assert error["type"] == "invalid_request_error"
    assert re.fullmatch(r"req_\w+", answer.headers["x-request-id"])
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("version", ["12", "", "13, 13"])
async def test_who_speaks_another_version_is_told_ours(
    client: httpx2.AsyncClient, version: str
) -> None:
    answer = await client.get("/", headers={**UPGRADE, "Sec-WebSocket-Version": version})
    assert answer.status_code == 426
    told = {name: answer.headers[name] for name in ("upgrade", "sec-websocket-version")}
    assert told == {"upgrade": "websocket", "sec-websocket-version": "13"}


async def test_frames_that_came_ahead_of_the_answer_are_answered_behind_it(served: Served) -> None:
    async with connected(served.listener.port) as wire:
        await wire.send(handshake() + frame(PING, b"early") + frame(TEXT, b'{"type": "ping"}'))
        head = await wire.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        await wire.until(b"\x8a\x05early")
        await wire.until(b'{"type":"pong"}')


async def test_a_goodbye_ahead_of_the_answer_is_answered_behind_it(served: Served) -> None:
    async with connected(served.listener.port) as wire:
        await wire.send(handshake() + closing(1000))
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await wire.closed() == b"\x88\x02\x03\xe8"


async def test_a_request_keeps_its_id(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/", headers={"X-Request-Id": "mine-1"})
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    unfit = await client.get("/", headers={"X-Request-Id": "not fit"})
    assert re.fullmatch(r"req_\w+", unfit.headers["x-request-id"])


@pytest.mark.parametrize("given", [None, "mine-1"])
async def test_a_handshake_has_the_id_that_the_log_has(served: Served, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as logs:
        async with connect(served.url, proxy=None, additional_headers=headers) as socket:
            await socket.recv()
            assert socket.response is not None
            told = socket.response.headers["X-Request-Id"]
    assert given in (None, told)
    assert [line["request_id"] for line in logs if line.get("route") == "open"] == [told]


@pytest.mark.parametrize(("status", "code"), [(503, "draining"), (500, "internal")])
def test_what_is_our_fault_is_told_as_such(status: int, code: str) -> None:
    answer = Response(status, "?", Headers(), b"Inner\nwords.")
    complete(answer)
    error = json.loads(answer.body)["error"]
    assert (error["code"], error["type"]) == (code, "server_error")
    assert ("Inner words." in error["message"]) == (code == "draining")
    assert ("retry-after" in answer.headers) == (code == "draining")

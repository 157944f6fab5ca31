"""Websockets on a port of anybody's: doors before the handshake is answered, and how all end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from server.config.limits import WebsocketLimits
from server.transports.websocket.endpoint import Door, Endpoint, Receive
from tests.server.transports.websocket.websocket_client import KEY
from tests.support.access import bearing, locked
from tests.support.websocket_echo import echo

BODY = {"error": {"message": "In a shape of its own.", "code": None}}


async def bouncer(_: ServerConnection, request: Request) -> Response | None:
    """Let nobody in who shows no key."""
    if "Authorization" in request.headers:
        return None
    headers = Headers({"Content-Type": "application/json", "WWW-Authenticate": "Bearer"})
    body = orjson.dumps(BODY)
    headers["Content-Length"] = str(len(body))
    return Response(401, "Unauthorized", headers, body)


@asynccontextmanager
async def serving(
    receive: Receive = echo, door: Door | None = None, limits: WebsocketLimits | None = None
) -> AsyncIterator[tuple[Endpoint, str]]:
    """Serve on a port; leaving closes it."""
    endpoint = Endpoint(locked(f"ada:{KEY}"), limits or WebsocketLimits(), 1 << 20)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(endpoint.serving(receive, door), "127.0.0.1", 0)
    yield endpoint, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    await endpoint.close()


def dial(url: str, key: str | None = None) -> connect:
    return connect(url, proxy=None, additional_headers=bearing(key) if key else {})


async def echoes(socket: ClientConnection) -> bool:
    await socket.send("hello")
    return await socket.recv() == "hello"


class TestDoors:
    async def test_one_may_refuse_before_the_handshake_in_its_own_shape(self) -> None:
        async with serving(door=bouncer) as (endpoint, url):
            with pytest.raises(InvalidStatus) as caught:
                async with dial(url):
                    pass
            answer = caught.value.response
            assert answer.status_code == 401
            assert orjson.loads(answer.body) == BODY
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["X-Request-Id"].startswith("req_")
            async with dial(url, KEY) as socket:
                assert await echoes(socket)
                assert len(endpoint.tasks) == 1

    async def test_where_there_is_one_nobody_is_asked_for_a_key_again(self) -> None:
        async def wide_open(*_: object) -> None: ...

        for door, told in ((wide_open, None), (None, "Bearer")):
            async with serving(door=door) as (_, url), dial(url) as socket:
                assert socket.response is not None
                assert socket.response.headers.get("WWW-Authenticate") == told

    async def test_while_one_thinks_nothing_more_is_read(self) -> None:
        reading = []

        async def slow(connection: ServerConnection, _: Request) -> None:
            reading.append(connection.transport.is_reading())

        async with serving(door=slow) as (_, url), dial(url) as socket:
            assert await echoes(socket)
        assert reading == [False]

    async def test_one_that_breaks_lets_nobody_in(self) -> None:
        async def broken(*_: object) -> None:
            raise ValueError("what somebody said")

        async with serving(door=broken) as (_, url):
            with pytest.raises(InvalidStatus) as caught:
                async with dial(url):
                    pass
            assert caught.value.response.status_code == 500
            assert b"somebody" not in caught.value.response.body


class TestEnds:
    async def test_all_are_closed_with_1001_and_nothing_is_left(self) -> None:
        async with serving() as (endpoint, url):
            sockets = [await dial(url) for _ in range(3)]
            assert await echoes(sockets[0])
            await endpoint.close()
            for socket in sockets:
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1001
            assert not endpoint.tasks

    async def test_nobody_is_let_in_behind_the_end(self) -> None:
        async with serving() as (endpoint, url):
            await endpoint.close()
            with pytest.raises(InvalidStatus) as caught:
                async with dial(url):
                    pass
            assert caught.value.response.status_code == 503

    async def test_what_breaks_closes_its_connection(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def break_down(_: ServerConnection) -> None:
            raise ValueError("what somebody said")

        async with serving(break_down) as (_, url), dial(url) as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1011
        assert "connection handler failed: ValueError" in caplog.text
        assert "somebody" not in caplog.text

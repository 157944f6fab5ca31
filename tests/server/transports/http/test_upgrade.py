"""Connections that are handed over to another protocol: which requests do that, what goes along."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from server.config.limits import HttpLimits as Limits
from server.core.access.auth import Auth
from server.core.clock import microseconds
from tests.server.transports.http.taker import Taker
from tests.server.transports.rest.http_client import (
    Served,
    Wire,
    connected,
    error_in,
    request,
    serving,
    serving_anew,
)
from tests.support.fakes import Puppet
from tests.support.raw_websocket import handshake

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/taken"
HEALTH = request("GET", "/healthz")
BODY = b"abc"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def taking(served: Served) -> AsyncIterator[Served]:
    async with serving(served.conversations, upgrades={PATH: Taker}) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def wire(taking: Served) -> AsyncIterator[Wire]:
    async with connected(taking.port) as wire:
        yield wire


@asynccontextmanager
async def behind_ask(folder: Path, puppet: Puppet) -> AsyncIterator[tuple[Wire, socket.socket]]:
    """Ask what is not answered yet, over a connection for which the kernel takes in little."""
    async with (
        serving_anew(folder, puppet) as behind,
        serving(behind.conversations, upgrades={PATH: Taker}) as server,
    ):
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", server.port))
            wire = Wire(narrow)
            await wire.send(request("POST", "/ask/c1", b'{"prompt": "Hello"}'))
            await puppet.asked(1)
            yield wire, narrow


async def is_taken(wire: Wire) -> bytes:
    """Return the head that the other protocol was given, which goes on hearing what is said."""
    await wire.until(b"taken: ")
    head = await wire.until(b"\r\n\r\n")
    await wire.send(b"and so on")
    await wire.until(b"and so on")
    return head


async def is_refused(wire: Wire) -> None:
    """Read a refusal, behind which nothing that is taken for frames is read as a request."""
    refused = await wire.reply()
    assert refused.status in (400, 404, 405, 426), refused
    error_in(refused.body, "not_found" if refused.status == 404 else "invalid_request")
    assert refused.headers["connection"] == "close"
    assert await wire.closed() == b""


class TestTaken:
    async def test_the_head_goes_along_as_it_was_read(self, wire: Wire) -> None:
        await wire.send(handshake(f"{PATH}?a=%20b", "X-Own: é", "X-Own: 2"))
        head = (await is_taken(wire)).decode()
        first, *lines = head.strip().split("\r\n")
        assert first == f"GET {PATH}?a=%20b HTTP/1.1"
        assert lines[0] == "host: localhost"
        assert lines[-2:] == ["x-own: é", "x-own: 2"]

    @pytest.mark.parametrize("size", [0, 1, 300_000])
    async def test_what_came_in_its_segment_goes_along(self, wire: Wire, size: int) -> None:
        await wire.send(handshake(PATH) + b"x" * size)
        await wire.until(b"\r\n\r\n" + b"x" * size)

    @pytest.mark.parametrize("pieces", [2, 40])
    async def test_one_in_pieces(self, wire: Wire, pieces: int) -> None:
        data = handshake(PATH)
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            await wire.send(data[start : start + size])
            await asyncio.sleep(0)
        await is_taken(wire)

    @pytest.mark.parametrize(
        "asked",
        [
            handshake(PATH, Upgrade="WebSocket", Connection="keep-alive, upgrade"),
            handshake(PATH, "Connection: Upgrade", Connection="keep-alive"),
            handshake(PATH, "Upgrade: websocket", Upgrade="h2c"),
            handshake(PATH, Upgrade="h2c ,websocket"),
            handshake(PATH, "Content-Length: 0"),
            handshake("/%74aken"),
            handshake(f"http://localhost{PATH}"),
        ],
    )
    async def test_however_it_is_written(self, wire: Wire, asked: bytes) -> None:
        await wire.send(asked)
        await is_taken(wire)

    async def test_behind_a_request_that_was_answered(self, wire: Wire) -> None:
        for _ in range(2):
            await wire.send(HEALTH)
            assert (await wire.reply()).status == 200
        await wire.send(handshake(PATH))
        await is_taken(wire)


class TestRefused:
    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(handshake(PATH, "Content-Length: 3") + BODY, id="with a body"),
            pytest.param(
                handshake(PATH, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
                id="with a body in chunks",
            ),
            pytest.param(handshake(PATH).replace(b"GET", b"POST"), id="POST"),
            pytest.param(handshake(PATH).replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        ],
    )
    async def test_what_is_no_handshake(self, wire: Wire, asked: bytes) -> None:
        await wire.send(asked + HEALTH)
        await is_refused(wire)

    async def test_one_behind_a_request_that_is_not_answered_yet(self, tmp_path: Path) -> None:
        puppet = Puppet()
        async with behind_ask(tmp_path, puppet) as (wire, _):
            await wire.send(handshake(PATH) + HEALTH)
            puppet.answer("All of it.")
            answer = await wire.reply()
            assert json.loads(answer.body)["answer"] == "All of it."
            await is_refused(wire)

    async def test_one_behind_an_answer_that_nobody_has_read(self, tmp_path: Path) -> None:
        """The other protocol would not know that it has to wait with what it writes."""
        puppet = Puppet()
        async with behind_ask(tmp_path, puppet) as (wire, narrow):
            puppet.answer("word " * 1_000_000)  # more than the kernel takes
            await wire.until(b"HTTP/1.1 200 OK\r\n")
            await wire.send(handshake(PATH))
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            all_of_it = await wire.closed()
            assert b"HTTP/1.1 404 " in all_of_it
            assert b"taken: " not in all_of_it

    async def test_one_in_the_segment_of_another_request(self, wire: Wire) -> None:
        await wire.send(HEALTH + handshake(PATH) + HEALTH)
        assert (await wire.reply()).status == 200
        await is_refused(wire)


class TestOthers:
    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(handshake("/healthz"), id="another path"),
            pytest.param(handshake("/healthz", Upgrade="h2c"), id="another protocol there"),
        ],
    )
    async def test_they_are_requests_like_any(self, wire: Wire, asked: bytes) -> None:
        for _ in range(2):
            await wire.send(asked)
            assert (await wire.reply()).status == 200

    @pytest.mark.parametrize(
        "asked",
        [
            handshake(PATH, Upgrade=""),
            handshake(PATH, Connection="close"),
            handshake(PATH, Upgrade="h2c"),
            handshake(PATH, Upgrade="websocket2"),
            handshake(f"{PATH}/"),
            handshake(f"/{PATH}"),
            handshake(PATH.upper()),
            handshake(f"/x?{PATH}"),
        ],
    )
    async def test_none_is_taken(self, wire: Wire, asked: bytes) -> None:
        await wire.send(asked)
        assert (await wire.reply()).status == 404


class TestCounts:
    async def test_a_connection_that_left_is_not_counted(self, served: Served) -> None:
        async with (
            serving(
                served.conversations, limits=Limits(connections=1), upgrades={PATH: Taker}
            ) as server,
            connected(server.port) as first,
        ):
            await first.send(handshake(PATH))
            await is_taken(first)
            async with connected(server.port) as second:
                await second.send(HEALTH)
                assert (await second.reply()).status == 200

    async def test_nor_by_its_address(self, served: Served) -> None:
        auth = Auth((), None, microseconds, open_to_all=True, public=False, most_by_address=1)
        async with (
            serving(served.conversations, auth, upgrades={PATH: Taker}) as server,
            connected(server.port) as first,
        ):
            await first.send(handshake(PATH))
            await is_taken(first)
            assert auth.addresses.enter("127.0.0.1") == 0

    async def test_no_clock_of_https_runs_on(self, served: Served) -> None:
        """Others came later, and were cut by each of the clocks before this one is asked again."""
        limits = Limits(head_seconds=0.1, body_seconds=0.1, idle_seconds=1)
        async with (
            serving(served.conversations, limits=limits, upgrades={PATH: Taker}) as server,
            connected(server.port) as first,
            connected(server.port) as silent,
            connected(server.port) as idle,
        ):
            await first.send(HEALTH)
            assert (await first.reply()).status == 200
            await first.send(handshake(PATH))
            await is_taken(first)
            await idle.send(HEALTH)
            await idle.reply()
            for one in (silent, idle):
                assert await one.closed() == b""
            await first.send(b"still here")
            await first.until(b"still here")

    async def test_its_own_head_has_no_more_time_than_others(self, served: Served) -> None:
        async with (
            serving(
                served.conversations, limits=Limits(head_seconds=0.1), upgrades={PATH: Taker}
            ) as server,
            connected(server.port) as slow,
        ):
            await slow.send(handshake(PATH)[:-2])
            assert await slow.closed() == b""

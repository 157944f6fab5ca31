"""One HTTP connection in bad hands: what it sends, how much of it, and how slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.config.limits import HttpLimits as Limits
from tests.server.transports.rest.http_client import (
    Reply,
    Served,
    Wire,
    connected,
    error_in,
    request,
    serving,
    serving_anew,
)
from tests.support.fakes import Puppet

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = b"Host: localhost\r\n"
ASK = b"POST /ask/c1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = ASK + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
STREAM = b'{"prompt": "Hello", "stream": true}'
HELLO = b'{"prompt": "Hello"}'


@pytest_asyncio.fixture(loop_scope="module")
async def wire(served: Served) -> AsyncIterator[Wire]:
    async with connected(served.port) as wire:
        yield wire


async def refused(wire: Wire, status: int) -> Reply:
    """Read a refusal that is the last thing the server says."""
    reply = await wire.reply()
    assert reply.status == status
    error_in(reply.body, "invalid_request")
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["content-type"] == "application/json"
    assert await wire.closed() == b""
    return reply


async def answered(wire: Wire) -> str:
    reply = await wire.reply()
    assert reply.status == 200, reply.body
    return str(json.loads(reply.body)["answer"])


class TestNoRequests:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"garbage\r\n\r\n", id="no request line"),
            pytest.param(b"GET /\r\n\r\n", id="no version"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", id="TLS"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
            pytest.param(b"GET /a\xbe\xff HTTP/1.1\r\n" + HOST + b"\r\n", id="path of bytes"),
            pytest.param(b"GET / HTTP/1.1\n" + b"Host: localhost\n\n", id="bare LF"),
            pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b" folded: x\r\n\r\n", id="folded"),
            pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"a b: x\r\n\r\n", id="space in a name"),
            pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"a: \x00\r\n\r\n", id="NUL in a value"),
            pytest.param(b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n", id="CONNECT"),
            pytest.param(ASK + b"Content-Length: -1\r\n\r\n", id="negative length"),
            pytest.param(ASK + b"Content-Length: x\r\n\r\n", id="no length"),
            pytest.param(ASK + b"Content-Length: 1\r\n" * 2 + b"\r\nx", id="two lengths"),
            pytest.param(ASK + b"Transfer-Encoding: xchunked\r\n\r\n", id="unknown coding"),
            pytest.param(CHUNKED + b"x\r\n", id="no chunk"),
            pytest.param(CHUNKED + b"fffffffffffffffff\r\n", id="chunk of 2^68"),
        ],
    )
    async def test_they_are_refused_and_that_is_all(self, wire: Wire, data: bytes) -> None:
        await wire.send(data)
        await refused(wire, 400)

    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        ],
    )
    async def test_no_second_request_is_smuggled_in(self, wire: Wire, framing: bytes) -> None:
        await wire.send(ASK + framing + b"0\r\n\r\n" + SMUGGLED)
        await refused(wire, 400)

    async def test_nothing_is_written_into_an_answer(self, tmp_path: Path) -> None:
        """What is wrong behind a request must not show up within the answer to it."""
        async with serving_anew(tmp_path, Puppet()) as served, connected(served.port) as wire:
            await wire.send(request("POST", "/ask/c1", STREAM))
            await wire.until(b"\r\n\r\n")
            assert b"turn.started" in await wire.chunk()
            await wire.send(b"garbage\r\n\r\n")
            assert await wire.closed() == b""


class TestFloods:
    @pytest.mark.parametrize(
        "flood",
        [
            pytest.param([b"X-A: " + b"a" * 70_000], id="one header"),
            pytest.param([b"X-A: a\r\n" * 10_000], id="many headers"),
            pytest.param([b"X-A: a\r\n" * 500] * 17, id="in many pieces"),
        ],
    )
    async def test_of_headers(self, wire: Wire, flood: list[bytes]) -> None:
        await wire.send(b"GET /healthz HTTP/1.1\r\n" + HOST)
        for piece in flood:
            await wire.send(piece)
        await refused(wire, 431)

    async def test_of_a_path(self, wire: Wire) -> None:
        await wire.send(b"GET /" + b"a" * 70_000)
        await refused(wire, 431)

    async def test_as_much_as_may_be_is_taken(self, wire: Wire) -> None:
        await wire.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 60_000)
        await wire.send(b"\r\n\r\n")
        assert (await wire.reply()).status == 200

    @pytest.mark.parametrize(
        "flood",
        [
            pytest.param(b"0\r\n" + b"X-T: a\r\n" * 40_000, id="many trailers"),
            pytest.param(b"0\r\nX-T: " + b"a" * 300_000, id="one trailer"),
            pytest.param(b"1;" + b"a" * 300_000, id="chunk extension"),
        ],
    )
    async def test_behind_a_body(self, wire: Wire, flood: bytes) -> None:
        """httptools keeps trailers, and would keep them without end."""
        await wire.send(CHUNKED + flood)
        assert b"HTTP/1.1 431 " in await wire.closed()

    async def test_of_requests(self, wire: Wire) -> None:
        """Requests may be sent ahead of their answers; each is answered, in order."""
        await wire.send(b"".join(request("GET", f"/turns/{n}") for n in range(300)))
        for number in range(300):
            assert f"'{number}'" in json.loads((await wire.reply()).body)["error"]["message"]

    async def test_of_a_body_in_small_chunks(self, wire: Wire) -> None:
        body = HELLO.ljust(30_000)
        await wire.send(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body))
        await wire.send(b"0\r\n\r\n")
        assert await answered(wire) == "Hello "


class TestTrailers:
    async def test_they_are_no_headers(self, wire: Wire) -> None:
        await wire.send(CHUNKED)
        await wire.send(b"%x\r\n%b\r\n" % (len(HELLO), HELLO))
        await wire.send(b"0\r\nX-Request-Id: late\r\nIdempotency-Key: late\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.headers["x-request-id"][:4]) == (200, "req_")
        await wire.send(request("POST", "/ask/c1", b'{"prompt": "Other"}', "Idempotency-Key: late"))
        assert await answered(wire) == "Other "


class TestUpgrades:
    """No offer is taken here, so a request with one is a request like any other (RFC 9110, 7.8)."""

    @pytest.mark.parametrize("pieces", [1, 2, 40])
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_is_read_all_the_same(
        self, wire: Wire, pieces: int, chunked: bool
    ) -> None:
        """As Java's client and `curl --http2` offer HTTP/2 with their first request."""
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HELLO), HELLO) if chunked else HELLO
        length = b"Content-Length: %d\r\n" % len(body)
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else length
        data = ASK + UPGRADE + framing + b"\r\n" + body
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            await wire.send(data[start : start + size])
            await asyncio.sleep(0)
        reply = await wire.reply()
        assert json.loads(reply.body)["answer"] == "Hello "
        assert await wire.closed() == b""

    async def test_a_body_is_no_request(self, wire: Wire) -> None:
        framing = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
        await wire.send(ASK + UPGRADE + framing)
        await wire.send(SMUGGLED)
        assert (await wire.reply()).status == 400
        assert await wire.closed() == b""

    @pytest.mark.parametrize("to", [b"websocket", b"h2c"])
    async def test_without_a_body_the_connection_goes_on(self, wire: Wire, to: bytes) -> None:
        offer = b"Connection: Upgrade\r\nUpgrade: " + to + b"\r\n\r\n"
        await wire.send((b"GET /healthz HTTP/1.1\r\n" + HOST + offer) * 200)
        for _ in range(200):
            assert (await wire.reply()).status == 200


class TestSlowness:
    async def test_a_head_has_its_time(self, served: Served) -> None:
        async with serving(served.conversations, limits=Limits(head_seconds=0.1)) as strict:
            async with connected(strict.port) as silent, connected(strict.port) as slow:
                await slow.send(b"GET /healthz HTTP/1.1\r\n")
                assert await slow.closed() == b""
                assert await silent.closed() == b""
            async with connected(strict.port) as second:
                await second.send(SMUGGLED)
                assert (await second.reply()).status == 200
                await second.send(SMUGGLED[:-1])
                assert await second.closed() == b""

    async def test_a_head_that_drips_has_no_more(self, served: Served) -> None:
        limits = Limits(head_seconds=0.2)
        async with (
            serving(served.conversations, limits=limits) as strict,
            connected(strict.port) as wire,
        ):
            await wire.send(b"GET /healthz HTTP/1.1\r\nX-A: ")
            closed = asyncio.create_task(wire.closed())
            while not closed.done():
                await wire.send(b"a")
                await asyncio.sleep(0.01)
            assert await closed == b""

    async def test_a_body_has_its_time(self, served: Served) -> None:
        async with serving(served.conversations, limits=Limits(body_seconds=0.1)) as strict:
            async with connected(strict.port) as wire:
                await wire.send(request("POST", "/ask/never", HELLO)[:-1])
                assert await wire.closed() == b""
            refused = await strict.client.get("/conversations/never")
            assert refused.status_code == 404

    async def test_what_has_come_of_it_earns_it_more(self, served: Served) -> None:
        generous = Limits(body_seconds=0.1, body_rate=10)
        async with (
            serving(served.conversations, limits=generous) as strict,
            connected(strict.port) as wire,
        ):
            whole = request("POST", "/conversations", b'{"title": "%b"}' % (b"x" * 100))
            await wire.send(whole[:-10])
            await asyncio.sleep(0.4)
            await wire.send(whole[-10:])
            assert b" 201 " in await wire.until(b"\r\n\r\n")

    async def test_between_two_requests_there_is_so_much_silence(self, served: Served) -> None:
        """One that may be silent longer is so first, and still there when the other is not."""
        async with (
            serving(served.conversations, limits=Limits(idle_seconds=3600)) as patient,
            serving(served.conversations, limits=Limits(idle_seconds=1)) as strict,
            connected(patient.port) as slow,
            connected(strict.port) as silent,
        ):
            for wire in (slow, silent):
                await wire.send(SMUGGLED)
                assert (await wire.reply()).status == 200
            assert await silent.closed() == b""
            await slow.send(SMUGGLED)
            assert (await slow.reply()).status == 200

    async def test_an_answer_takes_its_own(self, tmp_path: Path) -> None:
        hurried = Limits(head_seconds=0.1, body_seconds=0.1)
        async with (
            serving_anew(tmp_path, Puppet()) as served,
            serving(served.conversations, limits=hurried, keep_alive=0.05) as hasty,
            connected(hasty.port) as wire,
        ):
            await wire.send(request("POST", "/ask/c1", STREAM))
            await wire.until(b"\r\n\r\n")
            for _ in range(8):
                assert await wire.chunk() != b""

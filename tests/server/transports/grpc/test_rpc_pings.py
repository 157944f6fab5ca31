"""gRPC connections that are silent, that ping too often, or that never come to be."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from trialogue.v1 import conversation_pb2 as pb

from server.config.limits import RpcLimits
from tests.server.transports.grpc.grpc_client import serving
from tests.support.fakes import LONG, Puppet
from tests.support.http2 import HEADERS, PREFACE, SETTINGS, call, frame, greeting

PING, GOAWAY = 6, 7
ACK = 1
ENHANCE_YOUR_CALM = 11
ASK = call(
    b"/trialogue.v1.ConversationService/Ask",
    pb.AskRequest(conversation_id="c1", prompt="x").SerializeToString(),
)
CALL = call(b"/trialogue.v1.ConversationService/GetTurn", b"", stream=3)


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame of the server."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error_code(self) -> int:
        """Return why the server goes (RFC 9113, 6.8)."""
        return int(struct.unpack(">I", self.payload[4:8])[0])


class Peer:
    """A connection that says what it is told to, and answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, *data: bytes) -> None:
        with suppress(ConnectionError):
            self._writer.writelines(data)
            await self._writer.drain()

    async def hear(self) -> Heard | None:
        """Read the next frame; None once the server has closed the connection."""
        try:
            head = await self._reader.readexactly(9)
            size, kind, flags, stream = struct.unpack(">IBBI", b"\x00" + head)
            return Heard(kind, flags, stream, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until(self, kind: int, *, flags: int = 0, stream: int = 0) -> Heard:
        """Read on up to such a frame."""
        while (heard := await self.hear()) is not None:
            if (heard.kind, heard.stream) == (kind, stream) and heard.flags & flags == flags:
                return heard
        raise AssertionError("the server closed the connection")

    async def closed(self) -> list[Heard]:
        """Read all frames up to the end of the connection."""
        frames = []
        while (heard := await self.hear()) is not None:
            frames.append(heard)
        return frames


@asynccontextmanager
async def connected(port: int, opening: bytes) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        peer = Peer(reader, writer)
        await peer.say(opening)
        yield peer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def meeting(folder: Path, limits: RpcLimits, opening: bytes) -> AsyncIterator[Peer]:
    """Serve with these limits, and be its one peer."""
    folder.mkdir()
    async with (
        serving(folder, Puppet(), limits=limits) as served,
        connected(served.listener.port, opening) as peer,
    ):
        yield peer


GREETED = greeting() + frame(SETTINGS, flags=ACK)


async def is_served(peer: Peer) -> None:
    """Call something: the connection is as good as it was."""
    await peer.say(CALL)
    await peer.until(HEADERS, stream=3)


async def test_a_silent_peer_is_pinged_without_a_call_too(tmp_path: Path) -> None:
    async with meeting(tmp_path / "served", RpcLimits(ping_every=0.1), GREETED) as peer:
        assert (await peer.until(PING)).flags == 0


@pytest.mark.parametrize(
    "called", [pytest.param(b"", id="no call"), pytest.param(ASK, id="a call")]
)
async def test_who_answers_no_ping_is_cut_off(tmp_path: Path, called: bytes) -> None:
    """One that may take longer came first, and is still there when the other is not."""
    opening = GREETED + called
    async with (
        meeting(
            tmp_path / "patient", RpcLimits(ping_every=0.1, ping_timeout=LONG), opening
        ) as slow,
        meeting(tmp_path / "strict", RpcLimits(ping_every=0.1, ping_timeout=0.1), opening) as gone,
    ):
        heard = await gone.closed()
        assert PING in [one.kind for one in heard]
        await is_served(slow)


class TestPingsOfAClient:
    """No call is open: what the server sends with one would make up for pings."""

    async def test_one_that_comes_too_often_is_told_to_calm_down(self, tmp_path: Path) -> None:
        strict = RpcLimits(least_between_pings=60)
        async with meeting(tmp_path / "strict", strict, GREETED) as peer:
            await peer.say(*[frame(PING, bytes(8))] * 10)
            heard = await peer.closed()
        assert [one.error_code for one in heard if one.kind == GOAWAY] == [ENHANCE_YOUR_CALM]

    async def test_one_that_does_not_is_answered(self, tmp_path: Path) -> None:
        lenient = RpcLimits(least_between_pings=0)
        async with meeting(tmp_path / "lenient", lenient, GREETED) as peer:
            for number in range(10):
                await peer.say(frame(PING, number.to_bytes(8)))
                assert (await peer.until(PING, flags=ACK)).payload == number.to_bytes(8)
            await is_served(peer)


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(PREFACE[:9], id="half a preface"),
        pytest.param(PREFACE, id="a preface alone"),
    ],
)
async def test_a_handshake_has_its_time(tmp_path: Path, opening: bytes) -> None:
    """One that may take longer is begun first, and still there when the other is not."""
    async with (
        meeting(tmp_path / "patient", RpcLimits(handshake_seconds=LONG), opening) as slow,
        meeting(tmp_path / "strict", RpcLimits(handshake_seconds=0.2), opening) as late,
    ):
        await late.closed()
        await slow.say(GREETED.removeprefix(opening))
        await is_served(slow)

"""Tests of the door between nodes: who shows the secret follows what is written here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from server.live.memory import MemoryLiveTurns
from server.live.turn import LiveTurn, Progress
from server.nodes.port import PeerError
from server.transports.grpc.peer_tls import Known, known_by
from server.transports.grpc.peers import SERVICE, GrpcPeers, PeerService
from server.transports.tls import Certificate
from storage.model import Failure
from storage.parts import Kind, Mark, Part
from storage.port import Piece
from tests.storage.nouns import ADA, turn
from tests.support.certificates import make_certificate

SECRET = "the secret of a database"


@asynccontextmanager
async def door(live: MemoryLiveTurns, certificate: Certificate | None = None) -> AsyncIterator[str]:
    """Let nodes in; yield where."""
    server = grpc.aio.server()
    methods = dict(PeerService(live, SECRET).methods())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", certificate.grpc_credentials())
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def read(
    at: str, after: int = 0, secret: str = SECRET, known: Known | None = None
) -> list[Piece | Progress | Failure]:
    async with GrpcPeers(secret, known) as peers:
        return [one async for one in peers.follow(at, ADA, "turn_1", after)]


def begun() -> tuple[MemoryLiveTurns, LiveTurn]:
    turns = MemoryLiveTurns(1)
    return turns, turns.admit(ADA, turn("1"))


async def test_what_grows_is_gathered() -> None:
    turns, live = begun()
    async with door(turns) as at, GrpcPeers(SECRET) as peers:
        pieces = peers.follow(at, ADA, "turn_1", 0)
        live.append("0 ")
        heard = [await anext(pieces)]
        for number in range(1, 100):
            live.append(f"{number} ")
            await asyncio.sleep(0)
        live.end(live.snapshot())
        heard += [one async for one in pieces]
    said = "".join(one.text for one in heard if isinstance(one, Piece))
    assert said == "".join(f"{number} " for number in range(100))
    assert len(heard) < 20


async def test_how_far_the_prompt_is_read_is_told_before_the_answer() -> None:
    turns, live = begun()
    live.reads(410, 1172)
    async with door(turns) as at, GrpcPeers(SECRET) as peers:
        pieces = peers.follow(at, ADA, "turn_1", 0)
        assert await anext(pieces) == Progress("", "turn_1", 410, 1172)
        live.append("Hello")
        told = await anext(pieces)
        assert isinstance(told, Piece)
        assert told.text == "Hello"
        await pieces.aclose()


async def test_the_row_is_told_as_it_grows_with_its_marks_from_a_position() -> None:
    turns, live = begun()
    live.append("Héllo ")
    live.begin(Part(Kind.REASONING))
    async with (
        door(turns) as at,
        GrpcPeers(SECRET) as peers,
        aclosing(peers.follow(at, ADA, "turn_1", 2)) as pieces,
    ):
        mark = Mark(6, Part(Kind.REASONING))
        assert await anext(pieces) == Piece(ADA, "turn_1", 2, "llo \ufffc", (mark,))
        assert live.followers == 1
        live.append("Hm 😀")
        assert await anext(pieces) == Piece(ADA, "turn_1", 7, "Hm 😀")
        live.end(live.snapshot())
        assert [one async for one in pieces] == []


async def test_the_failure_of_one_that_was_taken_back_is_told_last() -> None:
    turns, live = begun()
    async with door(turns) as at:
        reading = asyncio.create_task(read(at))
        while not live.followers:
            await asyncio.sleep(0)
        failure = Failure("context_length_exceeded", "It is too long.")
        live.end(replace(turn("1"), error=failure))
        assert await reading == [failure]


async def test_one_that_is_not_live_has_nothing() -> None:
    async with door(MemoryLiveTurns(1)) as at:
        assert await read(at) == []


@pytest.mark.parametrize("secret", ["", "another", "the secret of a databas"])
async def test_who_does_not_show_the_secret_hears_nothing(secret: str) -> None:
    turns, live = begun()
    live.append("Nobody's business")
    async with door(turns) as at:
        with pytest.raises(PeerError, match="UNAUTHENTICATED"):
            await read(at, secret=secret)


async def test_one_that_is_not_there_is_lost() -> None:
    with pytest.raises(PeerError, match="UNAVAILABLE"):
        await read("127.0.0.1:1")


async def test_nodes_with_one_certificate_know_each_other_and_no_other(tmp_path: Path) -> None:
    cert, key, other = (tmp_path / name for name in ("cert", "key", "other"))
    await make_certificate(other, key)
    stranger = known_by(other, key)
    await make_certificate(cert, key)
    turns, live = begun()
    live.append("Among us")
    live.end(live.snapshot())
    async with door(turns, Certificate(cert, key)) as at:
        assert await read(at, known=known_by(cert, key)) == [Piece(ADA, "turn_1", 0, "Among us")]
        with pytest.raises(PeerError):
            await read(at, known=stranger)
        with pytest.raises(PeerError):
            await read(at)

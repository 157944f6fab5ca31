"""RFC 6455 over raw sockets: what the Autobahn suite asks of a server, in short (bin/autobahn).

A frame that is no JSON object is a prompt, so a prompt's answer shows that a message was taken.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.app.core import core_of
from server.core.turns.plan import Defaults
from storage.sqlite.store import SQLiteStore
from tests.server.transports.websocket.websocket_client import Served, serving
from tests.support.fakes import Parrot
from tests.support.raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    closing,
    frame,
    raw_peer,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PING_FRAME = b'{"type": "ping"}'
ODD = "日本 déjà vu 🐈".encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    path = tmp_path_factory.mktemp("protocol") / "trialogue.db"
    async with (
        SQLiteStore(path) as store,
        core_of(store, Parrot(), Defaults("gpt-4o")) as conversations,
        serving(conversations) as served,
    ):
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def peer(served: Served) -> AsyncIterator[RawPeer]:
    async with raw_peer(served.url) as peer:
        yield peer


async def answered(peer: RawPeer) -> bool:
    """Tell whether a `ping` of ours was understood."""
    heard = await peer.hear()
    return heard is not None and json.loads(heard.payload)["type"] == "pong"


async def asked(peer: RawPeer) -> str:
    """Return the answer to a prompt: Parrot says it back."""
    while True:
        heard = await peer.hear()
        assert heard is not None
        event = json.loads(heard.payload)
        if event["type"] == "turn.ended":
            return str(event["turn"]["answer"])


async def closed_with(peer: RawPeer) -> int | None:
    """Return the code of the close frame, which is the last that the server sends."""
    heard = await peer.until_closed()
    assert [one.opcode for one in heard].count(CLOSE) == 1
    assert heard[-1].opcode == CLOSE
    return heard[-1].close_code


class TestPings:
    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125)), b"\xff" * 125])
    async def test_a_ping_is_answered_with_what_it_says(
        self, peer: RawPeer, payload: bytes
    ) -> None:
        await peer.send(frame(PING, payload))
        heard = await peer.hear()
        assert heard is not None
        assert (heard.opcode, heard.payload) == (PONG, payload)

    async def test_many_are_answered_in_order(self, peer: RawPeer) -> None:
        await peer.send(b"".join(frame(PING, b"%d" % number) for number in range(50)))
        for number in range(50):
            heard = await peer.hear()
            assert heard is not None
            assert heard.payload == b"%d" % number

    async def test_a_pong_that_nobody_asked_for_is_passed_over(self, peer: RawPeer) -> None:
        await peer.send(frame(PONG), frame(PONG, b"hello"), frame(TEXT, PING_FRAME))
        assert await answered(peer)

    @pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
    async def test_a_control_frame_is_short(self, peer: RawPeer, opcode: int) -> None:
        await peer.send(frame(opcode, b"\x03\xe8" + b"x" * 124))
        assert await closed_with(peer) == 1002

    @pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
    async def test_a_control_frame_is_whole(self, peer: RawPeer, opcode: int) -> None:
        await peer.send(frame(opcode, b"", fin=False))
        assert await closed_with(peer) == 1002


class TestFragments:
    @pytest.mark.parametrize("size", [1, 3, 7, 100])
    async def test_a_message_comes_in_pieces(self, peer: RawPeer, size: int) -> None:
        pieces = [PING_FRAME[at : at + size] for at in range(0, len(PING_FRAME), size)]
        for number, piece in enumerate(pieces):
            kind = CONTINUATION if number else TEXT
            await peer.send(frame(kind, piece, fin=number == len(pieces) - 1))
        assert await answered(peer)

    async def test_a_piece_may_be_empty(self, peer: RawPeer) -> None:
        await peer.send(
            frame(TEXT, b"", fin=False),
            frame(CONTINUATION, PING_FRAME, fin=False),
            frame(CONTINUATION),
        )
        assert await answered(peer)

    async def test_a_ping_between_pieces_is_answered_at_once(self, peer: RawPeer) -> None:
        await peer.send(frame(TEXT, PING_FRAME[:5], fin=False), frame(PING, b"between"))
        heard = await peer.hear()
        assert heard is not None
        assert (heard.opcode, heard.payload) == (PONG, b"between")
        await peer.send(frame(CONTINUATION, PING_FRAME[5:]))
        assert await answered(peer)

    async def test_a_frame_may_come_byte_by_byte(self, peer: RawPeer) -> None:
        whole = frame(TEXT, PING_FRAME)
        await peer.send(*(whole[at : at + 1] for at in range(len(whole))))
        assert await answered(peer)

    async def test_nothing_is_continued_that_was_not_begun(self, peer: RawPeer) -> None:
        await peer.send(frame(CONTINUATION, PING_FRAME))
        assert await closed_with(peer) == 1002

    async def test_nothing_is_begun_within_a_message(self, peer: RawPeer) -> None:
        await peer.send(frame(TEXT, b"a", fin=False), frame(TEXT, b"b"))
        assert await closed_with(peer) == 1002


class TestFraming:
    @pytest.mark.parametrize("reserved", range(1, 8))
    @pytest.mark.parametrize("opcode", [TEXT, PING, CLOSE])
    async def test_reserved_bits_are_not_set(
        self, peer: RawPeer, opcode: int, reserved: int
    ) -> None:
        await peer.send(frame(opcode, b"", reserved=reserved))
        assert await closed_with(peer) == 1002

    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    async def test_reserved_opcodes_are_not_used(self, peer: RawPeer, opcode: int) -> None:
        await peer.send(frame(opcode, b"x"))
        assert await closed_with(peer) == 1002

    async def test_a_client_masks_its_frames(self, peer: RawPeer) -> None:
        await peer.send(frame(TEXT, PING_FRAME, masked=False))
        assert await closed_with(peer) == 1002

    @pytest.mark.parametrize("size", [125, 126, 127, 65_535, 65_536])
    async def test_every_length_is_read(self, peer: RawPeer, size: int) -> None:
        await peer.send(frame(TEXT, PING_FRAME.ljust(size)))
        assert await answered(peer)

    async def test_bytes_are_no_text(self, peer: RawPeer) -> None:
        await peer.send(frame(BINARY, PING_FRAME), frame(TEXT, PING_FRAME))
        heard = await peer.hear()
        assert heard is not None
        assert json.loads(heard.payload)["error"]["code"] == "invalid_request"
        assert await answered(peer)


class TestText:
    @pytest.mark.parametrize("size", [1, 2, 5])
    async def test_a_character_may_be_split_between_frames(self, peer: RawPeer, size: int) -> None:
        pieces = [ODD[at : at + size] for at in range(0, len(ODD), size)]
        for number, piece in enumerate(pieces):
            kind = CONTINUATION if number else TEXT
            await peer.send(frame(kind, piece, fin=number == len(pieces) - 1))
        assert (await asked(peer)).strip() == ODD.decode()

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited", id="surrogate"),
            pytest.param(b"\xf4\x90\x80\x80", id="beyond Unicode"),
            pytest.param(b"\xc0\xaf", id="overlong"),
            pytest.param(b"\xff\xfe", id="no UTF-8 at all"),
            pytest.param(b"\xe6\x97", id="cut off"),
            pytest.param(b"\x80", id="begins in the middle"),
        ],
    )
    async def test_what_is_not_utf_8_is_refused(self, peer: RawPeer, text: bytes) -> None:
        await peer.send(frame(TEXT, b"fine until here " + text))
        assert await closed_with(peer) == 1007

    async def test_also_where_the_fault_lies_between_two_frames(self, peer: RawPeer) -> None:
        await peer.send(frame(TEXT, b"\xe6\x97", fin=False), frame(CONTINUATION, b"x"))
        assert await closed_with(peer) == 1007


class TestCloses:
    @pytest.mark.parametrize(
        "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
    )
    async def test_a_code_is_said_back(self, peer: RawPeer, code: int) -> None:
        await peer.send(closing(code, b"because"))
        assert await closed_with(peer) == code

    async def test_none_is_said_back_as_none(self, peer: RawPeer) -> None:
        await peer.send(frame(CLOSE))
        assert await closed_with(peer) in (None, 1000)

    @pytest.mark.parametrize(
        "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
    )
    async def test_a_code_that_is_none_is_refused(self, peer: RawPeer, code: int) -> None:
        await peer.send(closing(code))
        assert await closed_with(peer) == 1002

    async def test_half_a_code_is_refused(self, peer: RawPeer) -> None:
        await peer.send(frame(CLOSE, b"\x03"))
        assert await closed_with(peer) == 1002

    async def test_a_reason_is_text(self, peer: RawPeer) -> None:
        await peer.send(closing(1000, b"\xff\xff"))
        assert await closed_with(peer) == 1007

    async def test_it_may_come_within_a_message(self, peer: RawPeer) -> None:
        await peer.send(frame(TEXT, b"a", fin=False), closing(1000), frame(CONTINUATION, b"b"))
        assert await closed_with(peer) == 1000

    async def test_nothing_is_taken_behind_it(self, peer: RawPeer) -> None:
        await peer.send(closing(1000) + frame(TEXT, PING_FRAME) + frame(PING, b"late"))
        heard = await peer.until_closed()
        assert [one.opcode for one in heard] == [CLOSE]

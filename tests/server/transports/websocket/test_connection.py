"""What peers that flood, stall or crowd in cost a websocket listener."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest
from websockets.exceptions import InvalidMessage

from server.config.limits import WebsocketLimits as Limits
from server.config.limits import room_at_the_door
from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from server.transports.websocket.connection import wire_logger
from tests.server.transports.websocket.websocket_client import KEY, OWNER, said, serving
from tests.support.access import bearing, locked
from tests.support.fakes import LONG, Puppet
from tests.support.raw_websocket import CLOSE, PING, TEXT, RawPeer, frame, handshake, raw_peer

DOORS = locked(f"ada:{KEY}")
#: of a peer that should be cut off long before
PINGS = 500_000


class Deaf:
    """A peer that writes frames by hand (RFC 6455), and never reads one."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Deaf:
        self._socket = await connected(self._port)
        await self._send(handshake())
        assert (await asyncio.get_running_loop().sock_recv(self._socket, 9)) == b"HTTP/1.1 "
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def say(self, kind: str, **fields: Any) -> None:
        await self._frame(0x81, json.dumps({"type": kind, **fields}).encode())

    async def ping_on(self) -> None:
        """Ping until cut off, or far longer than the kernel can hold the pongs."""
        for _ in range(PINGS):
            await self._frame(0x89, b"p" * 120)

    async def _frame(self, head: int, payload: bytes) -> None:
        assert len(payload) < 126
        await self._send(bytes([head, 0x80 | len(payload)]) + bytes(4) + payload)  # masked with 0

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)


async def connected(port: int) -> socket.socket:
    """Return a socket for which the kernel takes in little that nobody reads."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    return made


@asynccontextmanager
async def unanswering(
    conversations: Conversations, every: float, timeout: float
) -> AsyncIterator[RawPeer]:
    """Be a peer that is pinged so, and answers none."""
    limits = Limits(ping_every=every, ping_timeout=timeout, close_timeout=0.05)
    async with serving(conversations, limits=limits) as served, raw_peer(served.url) as peer:
        yield peer


async def is_served(peer: RawPeer) -> None:
    """Say something, and hear the answer; pings are passed over."""
    await peer.send(frame(TEXT, b'{"type": "ping"}'))
    while (heard := await peer.hear()) is not None and heard.opcode == PING:
        pass
    assert heard is not None
    assert heard.opcode == TEXT
    assert json.loads(heard.payload)["type"] == "pong"


async def answer_to(port: int, head: str) -> bytes:
    """Return all that a server says to a head written by hand, up to its hanging up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def long_turn(conversations: Conversations, upstream: Puppet) -> str:
    """Return the id of a turn whose answer has 200 kB."""
    upstream.answer("word " * 40_000)
    turn = await conversations.ask(OWNER, "c", Ask("x"))
    async for _ in conversations.follow(OWNER, turn.id):
        pass
    return turn.id


async def until_cut_off(deaf: Deaf, turn_id: str) -> None:
    """Follow a long turn again and again, read none of it, and wait to be cut off."""
    with suppress(ConnectionError):
        while True:
            await deaf.say("follow", turn_id=turn_id)
            await asyncio.sleep(0.01)


class TestReaders:
    async def test_who_pings_and_never_reads_is_cut_off(self, conversations: Conversations) -> None:
        # Neither patience nor a missing pong may be what cuts it off.
        limits = Limits(unread_pongs=1 << 16, patience=LONG, ping_every=LONG)
        async with (
            serving(conversations, limits=limits) as served,
            Deaf(served.listener.port) as deaf,
            served.peer() as other,
        ):
            with pytest.raises(ConnectionError):
                await deaf.ping_on()
            await other.say("ping")
            assert (await other.hear())["type"] == "pong"

    async def test_who_reads_nothing_is_cut_off(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        turn_id = await long_turn(conversations, upstream)
        async with (
            serving(conversations, limits=Limits(patience=0.05)) as served,
            Deaf(served.listener.port) as deaf,
        ):
            await until_cut_off(deaf, turn_id)

    async def test_who_reads_slowly_is_not(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        turn_id = await long_turn(conversations, upstream)
        async with (
            serving(conversations, limits=Limits(patience=1)) as served,
            served.peer(max_queue=1) as peer,
        ):
            for number in range(30):
                await peer.say("follow", request_id=str(number), turn_id=turn_id)
            for _ in range(3 * 30):
                await peer.hear()
                await asyncio.sleep(0.03)

    async def test_a_slow_follower_gets_larger_deltas_and_the_same_text(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        turn_id = await long_turn(conversations, upstream)
        pieces = [f"{number} " for number in range(5_000)]
        # it leaves with all that it asked for unread: nobody says goodbye
        leaving: dict[str, Any] = {"max_queue": 1, "close_timeout": 0.05}
        async with serving(conversations) as served, served.peer(**leaving) as peer:
            for _ in range(60):  # more than all buffers on the way hold, as large as they may grow
                await peer.say("follow", turn_id=turn_id)
            await peer.say("ask", request_id="a", conversation_id="d", prompt="x")
            await upstream.asked(2)
            for piece in pieces:
                upstream.say(piece)
                await asyncio.sleep(0)
            upstream.finish()
            events = await peer.hear_to_the_end("a")
        assert said(events) == "".join(pieces)
        assert len(events) < len(pieces) / 2

    async def test_leaving_waits_for_a_slow_peer_to_hear_the_ends(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        turn_id = await long_turn(conversations, upstream)
        async with serving(conversations) as served, served.peer(max_queue=1) as peer:
            for _ in range(15):
                await peer.say("follow", turn_id=turn_id)
            await peer.hear()
            await conversations.drain(0)
            leaving = asyncio.create_task(served.listener.__aexit__(None, None, None))
            heard = [json.loads(frame) for frame in await peer.last_words()]
            await leaving
        assert [event["type"] for event in heard].count("turn.ended") == 15
        assert peer.socket.close_code == 1001

    async def test_leaving_waits_for_no_deaf_peer(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        turn_id = await long_turn(conversations, upstream)
        limits = Limits(close_timeout=0.05)
        async with serving(conversations, limits=limits) as served:
            deaf = await Deaf(served.listener.port).__aenter__()
            for _ in range(64):
                await deaf.say("follow", turn_id=turn_id)
        await until_cut_off(deaf, turn_id)
        await deaf.__aexit__()


class TestSilence:
    """Peers of whom less is asked came first, and are still there when another is not."""

    async def test_who_answers_no_ping_is_cut_off(self, conversations: Conversations) -> None:
        async with (
            unanswering(conversations, every=LONG, timeout=0.05) as rare,
            unanswering(conversations, every=0.05, timeout=LONG) as slow,
            unanswering(conversations, every=0.05, timeout=0.05) as gone,
        ):
            heard = await gone.until_closed()
            assert [one.opcode for one in heard] == [PING, CLOSE]
            await is_served(rare)
            await is_served(slow)

    async def test_a_handshake_has_its_time(self, conversations: Conversations) -> None:
        loop = asyncio.get_running_loop()
        async with (
            serving(conversations, limits=Limits(handshake_seconds=LONG)) as patient,
            serving(conversations, limits=Limits(handshake_seconds=0.1)) as strict,
        ):
            slow, late = [await connected(one.listener.port) for one in (patient, strict)]
            with closing(slow), closing(late):
                for one in (slow, late):
                    await loop.sock_sendall(one, handshake()[:20])
                with suppress(ConnectionError):
                    assert await loop.sock_recv(late, 1) == b""
                await loop.sock_sendall(slow, handshake()[20:])
                assert await loop.sock_recv(slow, 13) == b"HTTP/1.1 101 "


class TestSizes:
    async def test_a_stranger_may_say_no_more_than_a_key(
        self, conversations: Conversations
    ) -> None:
        async with serving(conversations, DOORS) as served, served.stranger() as peer:
            await peer.say("authenticate", api_key="x" * (64 << 10))
            assert await peer.close_code() == 1009

    @pytest.mark.parametrize(
        "options",
        [{"additional_headers": bearing("key-of-ada")}, {}],
        ids=["shown by header", "shown by frame"],
    )
    async def test_a_frame_may_be_as_large_as_a_body_and_no_larger(
        self, conversations: Conversations, options: dict[str, Any]
    ) -> None:
        async with (
            serving(conversations, DOORS, max_body_bytes=200_000) as served,
            served.stranger(**options) as peer,
        ):
            if not options:
                await peer.say("authenticate", api_key="key-of-ada")
                await peer.hear()
            await peer.hear()
            await peer.write('{"type": "ping"}'.ljust(200_000))
            assert (await peer.hear())["type"] == "pong"
            await peer.write('{"type": "ping"}'.ljust(200_001))
            assert await peer.close_code() == 1009


class TestCrowds:
    async def test_one_connection_has_so_many_streams(self, conversations: Conversations) -> None:
        async with (
            serving(conversations, limits=Limits(streams=2)) as served,
            served.peer() as peer,
        ):
            turns = []
            for name in ("a", "b"):
                await peer.say("ask", conversation_id=name, prompt="x")
                turns.append((await peer.hear())["turn_id"])
            await peer.say("ask", request_id="c", prompt="x")
            error = await peer.refusal()
            assert (error["code"], error["request_id"]) == ("rate_limit_exceeded", "c")
            assert error["retry_after"] > 0
            await peer.say("cancel", request_id="x", turn_id=turns[0])
            ended = await peer.hear_to_the_end("x")
            assert ended[-1]["turn"]["status"] == "cancelled"

    async def test_one_peer_too_many_is_told_to_try_later(
        self, conversations: Conversations
    ) -> None:
        async with (
            serving(conversations, limits=Limits(connections=1)) as served,
            served.peer() as first,
            served.stranger() as second,
        ):
            assert await second.close_code() == 1013
            await first.say("ping")
            assert (await first.hear())["type"] == "pong"

    async def test_beyond_that_connections_are_cut_at_once(
        self, conversations: Conversations
    ) -> None:
        loop = asyncio.get_running_loop()
        async with serving(conversations, limits=Limits(connections=1)) as served:
            silent = [await connected(served.listener.port) for _ in range(room_at_the_door(1) + 1)]
            with pytest.raises((InvalidMessage, OSError)):
                async with served.stranger():
                    pass
        # Leaving does not wait for those whose handshake never came.
        for one in silent:
            assert await loop.sock_recv(one, 1) == b""
            one.close()


def test_the_library_logs_one_line_and_no_values(caplog: pytest.LogCaptureFixture) -> None:
    logger = wire_logger()
    try:
        raise ValueError("what somebody said")
    except ValueError:
        logger.exception("connection handler failed")
    logger.info("connection open")
    assert [record.getMessage() for record in caplog.records] == [
        "connection handler failed: ValueError"
    ]
    assert caplog.records[0].exc_info is None
    assert not logger.isEnabledFor(logging.WARNING)


async def test_of_a_peer_the_library_logs_nothing_at_any_level(
    conversations: Conversations, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "websockets.client")  # the peer's own words
    caplog.set_level(logging.DEBUG)  # last: what is captured has the level that was set last
    logging.getLogger("another").debug("another line")
    async with serving(conversations, DOORS) as served:
        shown = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        for line, told in (("GET / HTTP/9", b""), ("GET / HTTP/1.1", b"HTTP/1.1 426 ")):
            answer = await answer_to(served.listener.port, f"{line}\r\n{shown}")
            assert answer[:13] == told
        async with served.stranger() as peer:
            await peer.say("authenticate", api_key=KEY)
            assert (await peer.hear())["type"] == "authenticated"
    assert "another line" in caplog.text
    assert not [one for one in caplog.records if one.exc_info]
    assert not [one for one in caplog.records if one.name == "websockets.server"]
    assert KEY not in caplog.text

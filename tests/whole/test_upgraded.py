"""The websocket on the HTTP port: the same doors, bounds and ends as on its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage

from server.config.limits import WebsocketLimits
from server.config.quantities import Rate
from server.config.settings import load
from server.core.access.auth import Auth, configured
from server.core.access.rate import RateLimit
from server.core.clock import microseconds
from server.core.conversations import Conversations
from server.transports.websocket.listener import WebsocketListener
from storage.sqlite.store import SQLiteStore
from tests.server.transports.rest import http_client
from tests.server.transports.rest.http_client import connected, request
from tests.server.transports.websocket.websocket_client import KEY, TRY_LATER, Peer
from tests.support.access import OPEN_ACCESS, bearing, locked
from tests.support.certificates import make_certificate
from tests.support.fakes import Clock, Parrot, Puppet
from tests.support.live import Fork, Served, serve
from tests.support.raw_websocket import PING, TEXT, RawPeer, frame, handshake, raw_peer
from tests.support.wires import RefusedError, UpgradedWebsocket, upgraded


@asynccontextmanager
async def listening(
    conversations: Conversations, auth: Auth = OPEN_ACCESS, **limits: Any
) -> AsyncIterator[tuple[str, str]]:
    """Serve websockets on both ports, within these bounds; yields their addresses."""
    settings = load({"websocket_port": 0})
    bounds = WebsocketLimits(**limits)
    async with (
        WebsocketListener(conversations, auth, settings, limits=bounds) as own,
        http_client.serving(conversations, auth, upgrades={"/ws": own.connection}) as http,
    ):
        yield f"ws://127.0.0.1:{own.port}/", f"ws://127.0.0.1:{http.port}/ws"


@asynccontextmanager
async def stranger(url: str, **options: Any) -> AsyncIterator[Peer]:
    async with connect(url, proxy=None, **options) as opened:
        yield Peer(opened)


async def until_cut(peer: RawPeer, data: bytes) -> None:
    """Say the same again and again, read nothing, and wait to be cut off."""
    with suppress(ConnectionError):
        while True:
            await peer.send(data)
            await asyncio.sleep(0.01)


def port_of(served: Served) -> int:
    return int(served.http.rpartition(":")[2])


class TestDoors:
    async def test_a_page_that_is_not_ours_is_turned_away(self, served: Served) -> None:
        async with stranger(upgraded(served), origin="http://evil.example") as peer:
            assert await peer.close_code() == 1008

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
    async def test_our_own_page_is_let_in(self, served: Served, name: str) -> None:
        origin = f"http://{name}:{port_of(served)}"
        url = f"ws://{name}:{port_of(served)}/ws"
        async with stranger(url, origin=origin, host="127.0.0.1") as peer:
            assert (await peer.hear())["type"] == "welcome"

    @pytest.mark.parametrize("more", ["Host: localhost", "Origin: http://localhost"])
    async def test_a_header_that_is_there_twice_lets_nobody_in(
        self, served: Served, more: str
    ) -> None:
        origin = f"http://localhost:{port_of(served)}"
        async with connected(port_of(served)) as wire:
            await wire.send(
                handshake("/ws", more, Host=f"localhost:{port_of(served)}", Origin=origin)
            )
            refused = await wire.closed()
            assert b" 400 Bad Request" in refused or b"\x03\xf0There is more than one" in refused

    async def test_a_key_is_shown_in_all_three_ways(self, conversations: Conversations) -> None:
        subprotocols = ["trialogue.v1", f"trialogue-api-key.{KEY}"]
        async with listening(conversations, locked(f"ada:{KEY}")) as (_, url):
            for how in ({"additional_headers": bearing(KEY)}, {"subprotocols": subprotocols}):
                async with stranger(url, **how) as peer:
                    assert (await peer.hear())["type"] == "welcome"
            async with stranger(url) as peer:
                await peer.say("authenticate", api_key=KEY)
                assert (await peer.hear())["type"] == "authenticated"
                assert (await peer.hear())["type"] == "welcome"

    async def test_who_shows_none_in_time_is_turned_away(
        self, conversations: Conversations
    ) -> None:
        auth = locked(f"ada:{KEY}")
        async with (
            listening(conversations, auth, key_timeout=0.05) as (_, url),
            stranger(url) as one,
        ):
            assert await one.close_code() == 1008

    async def test_its_asks_are_of_the_keys_one_rate(
        self, store: SQLiteStore, clock: Clock
    ) -> None:
        limit = RateLimit(Rate(2, 3600), clock)
        keys = configured(f"ada:{KEY}")
        auth = Auth(keys, None, microseconds, open_to_all=False, public=False, rate=limit)
        async with serve(store, Parrot(), auth=auth) as served:
            wire = UpgradedWebsocket(served, KEY)
            for _ in range(2):
                assert [one.kind async for one in wire.ask("c", "Hello")][-1] == "turn.ended"
            with pytest.raises(RefusedError, match="rate_limit_exceeded"):
                await anext(wire.ask("c", "Hello"))

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
    async def test_it_speaks_tls(self, store: SQLiteStore, tmp_path: Path) -> None:
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        await make_certificate(cert, key)
        trust = ssl.create_default_context(cafile=cert)
        async with serve(store, Parrot(), tls_cert=cert, tls_key=key) as served:
            url = f"wss://localhost:{port_of(served)}/ws"
            async with stranger(url, ssl=trust, host="127.0.0.1") as peer:
                assert (await peer.hear())["type"] == "welcome"
                await peer.write("Hello")
                assert (await peer.hear_to_the_end())[-1]["turn"]["answer"] == "Hello "
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port_of(served), ssl=trust, server_hostname="localhost"
            )
            writer.write(request("GET", "/healthz"))
            await reader.readuntil(b'{"status":"ok"}')
            writer.write(handshake("/ws"))
            assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
            writer.transport.abort()


class TestCounts:
    async def test_both_ports_have_one_number_of_websockets(
        self, conversations: Conversations
    ) -> None:
        async with listening(conversations, connections=1) as urls, AsyncExitStack() as stack:
            first = await stack.enter_async_context(stranger(urls[0]))
            assert (await first.hear())["type"] == "welcome"
            second = await stack.enter_async_context(stranger(urls[1]))
            assert await second.close_code() == TRY_LATER

    async def test_a_flood_of_them_is_cut_at_once(self, conversations: Conversations) -> None:
        async with listening(conversations, connections=1) as (_, url), AsyncExitStack() as stack:
            port = int(url.removesuffix("/ws").rpartition(":")[2])
            for _ in range(13):  # the one, and those at the door
                wire = await stack.enter_async_context(connected(port))
                await wire.send(handshake("/ws"))
                await wire.until(b" 101 ")
            with pytest.raises((InvalidMessage, OSError)):
                async with stranger(url):
                    pass

    async def test_an_address_has_one_connection_less(self, store: SQLiteStore) -> None:
        auth = Auth((), None, microseconds, open_to_all=True, public=False, most_by_address=1)
        async with serve(store, Parrot(), auth=auth) as served:
            async with stranger(upgraded(served)) as peer:
                assert (await peer.hear())["type"] == "welcome"
                async with connected(port_of(served)) as wire:
                    await wire.send(request("GET", "/healthz"))
                    assert (await wire.reply()).status == 429
            status = 429
            while status != 200:
                async with connected(port_of(served)) as wire:
                    await wire.send(request("GET", "/healthz"))
                    status = (await wire.reply()).status


class TestBounds:
    async def test_a_first_frame_in_the_handshakes_segment_is_a_strangers(
        self, conversations: Conversations
    ) -> None:
        async with listening(conversations, locked(f"ada:{KEY}"), strangers_frame=100) as (_, url):
            port = int(url.removesuffix("/ws").rpartition(":")[2])
            async with connected(port) as wire:
                await wire.send(handshake("/ws") + frame(TEXT, b"x" * 101))
                assert b"welcome" not in await wire.closed()

    async def test_who_pings_and_never_reads_is_cut_off(self, conversations: Conversations) -> None:
        limits: dict[str, Any] = {"unread_pongs": 1 << 16, "patience": 600, "ping_every": 600}
        async with listening(conversations, **limits) as (_, url), raw_peer(url) as peer:
            await until_cut(peer, frame(PING, b"p" * 120) * 1000)

    async def test_who_reads_nothing_is_cut_off(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("word " * 40_000)
        async with listening(conversations, patience=0.05) as (_, url), raw_peer(url) as peer:
            await peer.send(frame(TEXT, b'{"type": "ask", "conversation_id": "c", "prompt": "x"}'))
            heard = await peer.hear()
            assert heard is not None
            turn_id = json.loads(heard.payload)["turn_id"]
            follow = json.dumps({"type": "follow", "turn_id": turn_id}).encode()
            await until_cut(peer, frame(TEXT, follow))

    async def test_who_answers_no_ping_is_cut_off(self, conversations: Conversations) -> None:
        limits: dict[str, Any] = {"ping_every": 0.05, "ping_timeout": 0.05, "close_timeout": 0.05}
        async with listening(conversations, **limits) as (_, url), raw_peer(url) as peer:
            assert (await peer.until_closed())[0].opcode == PING


class TestEnds:
    async def test_a_drain_tells_the_end_of_the_turn_and_closes_with_1001(
        self, tmp_path: Path
    ) -> None:
        slow = {"TRIALOGUE_ELIZA_DELAY": "0.2"}
        async with Fork(tmp_path, "--drain-seconds", "0.5", env=slow) as server:
            async with stranger(upgraded(server)) as peer:
                await peer.write("I remember a long and winding road " * 8)
                while (await peer.hear())["type"] != "turn.delta":
                    pass
                server.terminate()
                ended = (await peer.hear_to_the_end())[-1]
                assert ended["turn"]["status"] == "interrupted"
                assert await peer.close_code() == 1001
            assert await server.ended() == 0
            assert "exceeded" not in server.log

    async def test_a_handshake_that_was_refused_is_the_last_of_its_connection(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with connected(port_of(served)) as wire:
            smuggled = request("GET", "/healthz")
            await wire.send(handshake("/ws", Sec_WebSocket_Version="777") + smuggled)
            refused = await wire.reply()
            assert refused.status == 426
            assert refused.headers["sec-websocket-version"] == "13"
            await wire.send(smuggled)
            assert await wire.closed() == b""
        assert "internal error" not in caplog.text

    async def test_a_proxy_that_keeps_the_upgrade_to_itself_is_told_so(
        self, served: Served
    ) -> None:
        async with connected(port_of(served)) as wire:
            await wire.send(handshake("/ws", Upgrade="", Connection="close"))
            assert b"proxy" in (await wire.reply()).body

    async def test_who_leaves_in_the_handshake_leaves_nothing(self, served: Served) -> None:
        for _ in range(20):
            with socket.socket() as gone:
                gone.connect(("127.0.0.1", port_of(served)))
                gone.sendall(handshake("/ws"))
        async with stranger(upgraded(served)) as peer:
            assert (await peer.hear())["type"] == "welcome"

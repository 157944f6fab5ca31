"""Who gets in on the websocket, and how the others are told."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from server.config.limits import WebsocketLimits as Limits
from server.core.access.auth import Auth, new_key
from server.core.clock import microseconds
from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from storage.keys import KeyFile
from tests.server.transports.websocket.websocket_client import KEY, serving
from tests.support.access import bearing, locked
from tests.support.certificates import make_certificate
from tests.support.fakes import Puppet

DOORS = locked(f"ada:{KEY},bob:key-of-bob")
IMPATIENT = Limits(key_timeout=0.05)


def protocols(*names: str) -> dict[str, Any]:
    return {"subprotocols": [Subprotocol(name) for name in names]}


class TestKeys:
    async def test_a_header_shows_a_key(self, conversations: Conversations) -> None:
        async with (
            serving(conversations, DOORS) as served,
            served.stranger(additional_headers=bearing(KEY)) as peer,
        ):
            welcome = await peer.hear()
        assert welcome["type"] == "welcome"
        assert welcome["server"] == "trialogue"
        assert welcome["protocol"] == "trialogue.v1"

    async def test_so_do_subprotocols_of_which_ours_is_selected(
        self, conversations: Conversations
    ) -> None:
        offered = protocols("trialogue.v1", f"trialogue-api-key.{KEY}")
        async with serving(conversations, DOORS) as served, served.peer(**offered) as peer:
            assert peer.socket.subprotocol == "trialogue.v1"

    async def test_so_does_the_first_frame(self, conversations: Conversations) -> None:
        async with serving(conversations, DOORS) as served, served.stranger() as peer:
            await peer.say("authenticate", request_id="a", api_key=KEY)
            assert await peer.hear() == {"type": "authenticated", "request_id": "a"}
            assert (await peer.hear())["type"] == "welcome"

    async def test_what_is_sent_with_the_first_frame_is_read_behind_it(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("Hello")
        async with serving(conversations, DOORS) as served, served.stranger() as peer:
            await peer.say("authenticate", api_key=KEY)
            await peer.say("ask", request_id="1", prompt="x" * 1000)
            assert (await peer.hear_to_the_end("1"))[-1]["turn"]["answer"] == "Hello"

    async def test_an_address_shows_none(self, conversations: Conversations) -> None:
        async with (
            serving(conversations, DOORS, limits=IMPATIENT) as served,
            served.stranger(f"?api_key={KEY}&key={KEY}") as peer,
        ):
            assert await peer.close_code() == 1008

    async def test_who_shows_none_in_time_is_sent_away_unwelcomed(
        self, conversations: Conversations
    ) -> None:
        async with (
            serving(conversations, DOORS, limits=IMPATIENT) as served,
            served.stranger() as peer,
        ):
            assert await peer.last_words() == []
            assert peer.socket.close_code == 1008

    @pytest.mark.parametrize(
        "options",
        [
            {"additional_headers": bearing("wrong")},
            {"additional_headers": bearing("clé")},
            {"additional_headers": bearing(KEY[:-1])},
            {"additional_headers": bearing(f"{KEY}x")},
            protocols("trialogue.v1", "trialogue-api-key.wrong"),
        ],
    )
    async def test_a_wrong_key_is_told_so(
        self, conversations: Conversations, options: dict[str, Any]
    ) -> None:
        async with serving(conversations, DOORS) as served, served.stranger(**options) as peer:
            assert (await peer.refusal())["code"] == "invalid_api_key"
            assert await peer.close_code() == 1008

    @pytest.mark.parametrize(
        ("first", "code"),
        [
            ('{"type": "authenticate", "api_key": "wrong", "request_id": "r"}', "invalid_api_key"),
            ('{"type": "authenticate", "api_key": 5, "request_id": "r"}', "invalid_request"),
            ('{"type": "authenticate", "request_id": "r"}', "invalid_request"),
            ('{"type": "ask", "prompt": "x", "request_id": "r"}', "invalid_api_key"),
            ('{"type": "ping", "request_id": "r"}', "invalid_api_key"),
        ],
    )
    async def test_any_other_first_frame_is_refused(
        self, conversations: Conversations, first: str, code: str
    ) -> None:
        async with serving(conversations, DOORS) as served, served.stranger() as peer:
            await peer.write(first)
            error = await peer.refusal()
            assert (error["code"], error["request_id"]) == (code, "r")
            assert await peer.close_code() == 1008

    @pytest.mark.parametrize("first", ["Hello", b"Hello", "<|ask|>$c$Hello"])
    async def test_a_prompt_is_no_key(
        self, conversations: Conversations, first: str | bytes
    ) -> None:
        async with serving(conversations, DOORS) as served, served.stranger() as peer:
            await peer.write(first)
            await peer.refusal()
            assert await peer.close_code() == 1008

    async def test_a_conversation_is_its_owners(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        upstream.answer("Hello")
        turn = await conversations.ask("ada", "c", Ask("x"))
        async with (
            serving(conversations, DOORS) as served,
            served.peer(additional_headers=bearing("key-of-bob")) as bob,
        ):
            for frame in (
                {"kind": "follow", "turn_id": turn.id},
                {"kind": "cancel", "turn_id": turn.id},
                {"kind": "watch", "conversation_id": "c"},
                {"kind": "regenerate", "conversation_id": "c"},
            ):
                await bob.say(**frame)
                assert (await bob.refusal())["code"] == "not_found"

    async def test_an_open_house_takes_any_key_and_knows_whose_it_is(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        key, kept = new_key("ada", microseconds())
        auth = Auth((kept,), None, microseconds, open_to_all=True, public=False)
        upstream.answer("Hello")
        async with serving(conversations, auth) as served, served.peer() as peer:
            await peer.say("authenticate", api_key=key)
            assert (await peer.hear())["type"] == "authenticated"
            await peer.say("ask", conversation_id="c", prompt="x")
            await peer.hear_to_the_end()
        assert (await conversations.get("ada", "c")).id == "c"

    async def test_a_revoked_key_keeps_no_connection(
        self, conversations: Conversations, tmp_path: Path
    ) -> None:
        file = KeyFile(tmp_path / "keys")
        key, kept = new_key("ada", microseconds())
        file.add(kept)
        auth = Auth((), file, microseconds, open_to_all=False, public=False)
        eager, never = Limits(check_keys_every=0.01), Limits(check_keys_every=3600)
        async with (
            serving(conversations, auth, limits=eager) as watched,
            serving(conversations, auth, limits=never) as unwatched,
            watched.peer(additional_headers=bearing(key)) as idle,
            unwatched.peer(additional_headers=bearing(key)) as asking,
        ):
            file.revoke(kept.id, microseconds())
            assert (await idle.refusal())["code"] == "invalid_api_key"
            assert await idle.close_code() == 1008
            await asking.say("ask", prompt="x")
            assert (await asking.refusal())["code"] == "invalid_api_key"
            assert await asking.close_code() == 1008

    async def test_a_file_of_keys_that_broke_is_our_fault_and_lets_nobody_in(
        self, conversations: Conversations, tmp_path: Path
    ) -> None:
        file = KeyFile(tmp_path / "keys")
        key, kept = new_key("ada", microseconds())
        file.add(kept)
        auth = Auth((), file, microseconds, open_to_all=False, public=False)
        with structlog.testing.capture_logs() as logs:
            async with (
                serving(conversations, auth, limits=Limits(check_keys_every=0.01)) as served,
                served.peer(additional_headers=bearing(key)),
            ):
                file.path.write_text("{")
                async with served.stranger(additional_headers=bearing(key)) as peer:
                    assert await peer.close_code() == 1011
                while "keys cannot be read" not in {log["event"] for log in logs}:
                    await asyncio.sleep(0.01)
        events = {log["event"] for log in logs}
        assert events == {"websocket broke", "keys cannot be read", "request"}
        assert key not in str(logs)


class TestPages:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "http://127.0.0.1.evil.example:8000"},
            [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer other")],
        ],
    )
    async def test_a_foreign_page_is_sent_away_even_with_a_key(
        self, conversations: Conversations, headers: Any
    ) -> None:
        shown = dict(bearing(KEY), **headers) if isinstance(headers, dict) else headers
        async with (
            serving(conversations, DOORS, page_port=8000) as served,
            served.stranger(additional_headers=shown) as peer,
        ):
            assert await peer.last_words() == []
            assert peer.socket.close_code == 1008

    async def test_so_is_a_name_that_was_rebound_to_us(self, conversations: Conversations) -> None:
        async with serving(conversations) as served:
            port = served.listener.port
            async with connect(
                f"ws://evil.example:{port}/", host="127.0.0.1", port=port, proxy=None
            ) as socket:
                await socket.wait_closed()
                assert socket.close_code == 1008

    async def test_our_own_page_comes_in(self, conversations: Conversations) -> None:
        ours = {"Origin": "http://127.0.0.1:8000"}
        async with (
            serving(conversations, page_port=8000) as served,
            served.peer(additional_headers=ours) as peer,
        ):
            await peer.say("ping")
            assert (await peer.hear())["type"] == "pong"

    @pytest.mark.parametrize("named", ["a%20b", "%ff", "", "-x", "x" * 129])
    async def test_an_address_with_a_bad_conversation_id_is_refused(
        self, conversations: Conversations, named: str
    ) -> None:
        async with (
            serving(conversations) as served,
            served.stranger(f"?conversation_id={named}&x") as peer,
        ):
            if named:
                error = await peer.refusal()
                assert (error["code"], error["param"]) == ("invalid_request", "conversation_id")
                assert await peer.close_code() == 1008
            else:
                assert (await peer.hear())["conversation_id"].startswith("conv_")


class TestTheDoorItself:
    async def test_a_port_that_is_taken_is_an_os_error(self, conversations: Conversations) -> None:
        async with serving(conversations) as served:
            with pytest.raises(OSError, match="in use"):
                async with serving(conversations, websocket_port=served.listener.port):
                    pass

    async def test_it_speaks_tls(self, conversations: Conversations, tmp_path: Path) -> None:
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        await make_certificate(cert, key)
        async with serving(conversations, tls_cert=cert, tls_key=key) as served:
            trust = ssl.create_default_context(cafile=cert)
            url = f"wss://localhost:{served.listener.port}/"
            async with connect(url, ssl=trust, host="127.0.0.1", proxy=None) as socket:
                assert "welcome" in str(await socket.recv())


class TestWhoNeedsAKey:
    @pytest.mark.parametrize(
        ("shown", "told"), [({}, "Bearer"), ({"additional_headers": bearing(KEY)}, None)]
    )
    async def test_the_handshake_says_so(
        self, conversations: Conversations, shown: dict[str, Any], told: str | None
    ) -> None:
        async with serving(conversations, DOORS) as served, served.stranger(**shown) as peer:
            assert peer.socket.response is not None
            assert peer.socket.response.headers.get("WWW-Authenticate") == told

    async def test_an_open_server_asks_for_none(self, conversations: Conversations) -> None:
        async with serving(conversations) as served, served.stranger() as peer:
            assert peer.socket.response is not None
            assert "WWW-Authenticate" not in peer.socket.response.headers

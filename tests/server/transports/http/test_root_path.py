"""A path prefix: by setting or by a proxy's header, taken off by it or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.core.access.auth import Auth, configured
from server.core.access.proxies import Proxies
from server.core.clock import microseconds
from tests.server.transports.http.taker import Taker
from tests.server.transports.rest.http_client import (
    Served,
    connected,
    refused,
    serving,
)
from tests.support.raw_websocket import handshake

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = {"authorization": "Bearer key-of-ann"}
PREFIXED = {"x-forwarded-prefix": "/chat"}


def behind_proxy(*believed: str, **more: Any) -> Auth:
    """Let Ann in, who comes through a proxy on this machine."""
    usual: dict[str, Any] = {"open_to_all": False, "public": False, "hosts": ("chat.example",)}
    keys = configured("ann:key-of-ann")
    return Auth(keys, None, microseconds, proxies=Proxies(believed), **{**usual, **more})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def below(served: Served) -> AsyncIterator[Served]:
    """A server with a root path; it takes nobody's word."""
    auth, upgrades = behind_proxy(), {"/taken": Taker}
    async with serving(served.conversations, auth, upgrades=upgrades, root_path="/chat") as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied(served: Served) -> AsyncIterator[Served]:
    """A server without one, that believes who is on this machine."""
    async with serving(served.conversations, behind_proxy("127.0.0.1")) as server:
        yield server


class TestSetting:
    @pytest.mark.parametrize("prefix", ["", "/chat"])
    async def test_a_proxy_may_take_it_off_or_not(self, below: Served, prefix: str) -> None:
        get = below.client.get
        assert "<title>" in (await get(f"{prefix}/")).text
        assert (await get(f"{prefix}/web/config.json")).json()["port"] == below.port
        assert (await get(f"{prefix}/conversations", headers=KEY)).json()["object"] == "list"
        made = await below.client.post(f"{prefix}/ask/a%2Db", json={"prompt": "Hi"}, headers=KEY)
        assert made.json()["conversation_id"] == "a-b"
        described = (await get(f"{prefix}/openapi.json")).json()
        assert described["servers"] == [{"url": "/chat"}]

    @pytest.mark.parametrize("path", ["/taken", "/chat/taken"])
    async def test_websockets_are_below_it_too(self, below: Served, path: str) -> None:
        async with connected(below.port) as wire:
            await wire.send(handshake(path))
            await wire.until(b"taken: ")

    async def test_without_a_slash_it_leads_to_the_page(self, below: Served) -> None:
        response = await below.client.get("/chat")
        assert (response.status_code, response.headers["location"]) == (308, "chat/")

    @pytest.mark.parametrize("path", ["/chatter/healthz", "/chat/chat/healthz", "/%63hat/healthz"])
    async def test_what_only_looks_like_it_is_not_taken_off(self, below: Served, path: str) -> None:
        refused(await below.client.get(path, headers=KEY), 404, "not_found")

    async def test_it_opens_no_way_around_a_key(self, below: Served) -> None:
        for path in ("/chat/conversations", "/chat/web/../conversations", "/chat/metrics"):
            async with connected(below.port) as wire:
                await wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert (await wire.reply()).status in (401, 404), path


class TestHeader:
    async def test_the_description_says_where_it_is(self, proxied: Served) -> None:
        described = (await proxied.client.get("/openapi.json", headers=PREFIXED)).json()
        assert described["servers"] == [{"url": "/chat"}]
        assert "servers" not in (await proxied.client.get("/openapi.json")).json()

    async def test_a_stranger_is_not_believed(self, below: Served) -> None:
        forged = {"x-forwarded-prefix": "/evil", "x-forwarded-host": "evil.example"}
        described = (await below.client.get("/openapi.json", headers=forged)).json()
        assert described["servers"] == [{"url": "/chat"}]

    @pytest.mark.parametrize(
        ("prefix", "path"),
        [
            ("/web", "/web/conversations"),  # public, were it looked at before it is taken off
            ("/x", "/x/metrics"),  # past what a proxy lets nobody ask for
            ("/conversations", "/conversations/a-b"),
            ("/docs", "/docs/conversations"),
        ],
    )
    async def test_nothing_is_taken_off_for_it(
        self, proxied: Served, prefix: str, path: str
    ) -> None:
        headers = {"x-forwarded-prefix": prefix}
        plain = await proxied.client.get(path)
        forged = await proxied.client.get(path, headers=headers)
        assert forged.status_code == plain.status_code
        assert forged.json()["error"] == plain.json()["error"]

    async def test_a_slash_too_many_leads_back_below_the_prefix(self, proxied: Served) -> None:
        for path, where in {
            "/docs/": "../docs",
            "/conversations/?limit=2": "../conversations?limit=2",
            "/conversations/a:b/": "../a:b",
        }.items():
            response = await proxied.client.get(path, headers={**PREFIXED, **KEY})
            assert (response.status_code, response.headers["location"]) == (307, where)

    async def test_several_slashes_lead_nowhere(self, proxied: Served) -> None:
        for path in ("/conversations//", "//evil.example/docs/", "//evil.example/"):
            async with connected(proxied.port) as wire:
                head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                shown = f"Authorization: {KEY['authorization']}\r\n\r\n"
                await wire.send((head + shown).encode())
                assert (await wire.reply()).status == 404, path

    async def test_the_page_is_where_the_proxy_was_asked(self, proxied: Served) -> None:
        headers = {**KEY, "x-forwarded-host": "chat.example", "origin": "https://chat.example"}
        body = {"prompt": "Hi"}
        answer = await proxied.client.post("/ask/b", json=body, headers=headers)
        assert answer.status_code == 200
        for forged in ("evil.example", "chat.example, evil.example"):
            response = await proxied.client.post(
                "/ask/b", json=body, headers={**headers, "x-forwarded-host": forged}
            )
            refused(response, 403, "permission_denied")


class TestAddress:
    async def test_nobody_is_on_this_machine_by_a_header(self, served: Served) -> None:
        """Neither who says so himself, nor whom a proxy here hands on."""
        keyless = Auth(
            (),
            None,
            microseconds,
            open_to_all=False,
            public=False,
            until_keyed=True,
            proxies=Proxies(("127.0.0.1",)),
        )
        async with serving(served.conversations, keyless) as server:
            get = server.client.get
            chains = {
                "203.0.113.9": 403,
                "127.0.0.1, 203.0.113.9": 403,
                "127.0.0.1": 200,
            }
            for chain, status in chains.items():
                response = await get("/conversations", headers={"x-forwarded-for": chain})
                assert response.status_code == status, chain
        async with serving(served.conversations, behind_proxy("127.0.0.1", public=True)) as server:
            forged = {"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "localhost"}
            refused(
                await server.client.get("/conversations", headers=forged), 401, "invalid_api_key"
            )

    async def test_clients_of_a_proxy_are_bounded_one_by_one(self, served: Served) -> None:
        auth = behind_proxy("127.0.0.1", most_by_address=1)
        ann = {**KEY, "x-forwarded-for": "10.1.1.1, 203.0.113.1"}
        bob = {**KEY, "x-forwarded-for": "203.0.113.2"}
        async with serving(served.conversations, auth) as server:
            stream = server.client.stream("GET", "/events", headers=ann)
            async with stream as events:
                assert events.status_code == 200
                again = {**KEY, "x-forwarded-for": "10.1.1.2, 203.0.113.1"}
                refused(
                    await server.client.get("/conversations", headers=again),
                    429,
                    "rate_limit_exceeded",
                )
                assert (await server.client.get("/conversations", headers=bob)).status_code == 200

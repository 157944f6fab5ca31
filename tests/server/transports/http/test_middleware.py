"""What every HTTP request passes first: doors, request id, size; and how each answer is dressed."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from server.config.settings import load
from server.core.access.auth import Auth, configured
from server.core.clock import microseconds
from server.transports.rest.app import PUBLIC
from storage.port import NotFoundError
from tests.server.transports.rest.http_client import (
    Reply,
    Served,
    connected,
    error_in,
    refused,
    request,
    serving,
    serving_anew,
    talking,
)
from tests.support.access import locked
from tests.support.fakes import Parrot

#: A URL that is made of one of these has another path, or another host, than was asked for.
CROOKED_HOSTS = [
    "localhost/#@x",
    "localhost/healthz?",
    "localhost/web/?",
    "localhost/healthz#",
    "x@localhost",
    "localhost\\",
]


pytestmark = pytest.mark.asyncio(loop_scope="module")
Folders = pytest.TempPathFactory


class AnyHost(Auth):
    """Doors that look at no Host, so that only what is behind them can decide."""

    def check_origin(self, *_: object) -> None:
        pass


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shut(tmp_path_factory: Folders) -> AsyncIterator[Served]:
    """A server that wants a key."""
    auth = locked("ann:key-of-ann,bob:key-of-bob")
    async with serving_anew(tmp_path_factory.mktemp("shut"), Parrot(), auth) as server:
        yield server


def bearing(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


async def named(port: int, path: str, host: str) -> Reply:
    """Return the answer to a GET that names this host."""
    async with connected(port) as wire:
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return await wire.reply()


class TestRequestIds:
    async def test_every_answer_has_one(self, served: Served) -> None:
        answers = [
            await served.client.request(method, path, json=body)
            for method, path, body in (
                ("POST", "/ask/c1", {"prompt": "x"}),
                ("POST", "/ask/c1", {}),
                ("POST", "/conversations/c1/regenerate", {"stream": 1}),
                ("GET", "/nowhere", None),
                ("PUT", "/healthz", None),
                ("DELETE", "/conversations/c1", None),
                ("GET", "/docs", None),
                ("GET", "/openapi.json", None),
                ("GET", "/metrics", None),
                ("GET", "/conversations/", None),
            )
        ]
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert all(re.fullmatch(r"req_[0-9a-f]{24}", one) for one in ids)
        assert len(set(ids)) == len(ids)
        statuses = [answer.status_code for answer in answers]
        assert statuses == [200, 400, 400, 404, 405, 204, 200, 200, 200, 307]

    async def test_the_callers_own_is_kept(self, served: Served) -> None:
        response = await served.client.get("/nowhere", headers={"x-request-id": "mine/1"})
        assert response.headers["x-request-id"] == "mine/1"

    @pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", "a\tb"])
    async def test_one_that_cannot_be_shown_is_not(self, served: Served, given: str) -> None:
        headers = {b"x-request-id": given.encode()}
        response = await served.client.get("/healthz", headers=headers)
        assert response.headers["x-request-id"].startswith("req_")


class TestDress:
    @pytest.mark.parametrize("path", ["/healthz", "/docs", "/nowhere", "/conversations"])
    async def test_browsers_are_told_to_be_careful(self, served: Served, path: str) -> None:
        headers = (await served.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "server" not in headers


class TestKeys:
    async def test_without_one_nothing_is_open_but_what_shows_nothing(self, shut: Served) -> None:
        described = (await shut.client.get("/openapi.json")).json()["paths"]
        for path, methods in described.items():
            for method in methods:
                response = await shut.client.request(method, path)
                if path in PUBLIC:
                    assert response.status_code == 200
                else:
                    refused(response, 401, "invalid_api_key")
                    assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("path", ["/healthz", "/health", "/readyz", "/docs", "/openapi.json"])
    async def test_some_pages_need_none(self, shut: Served, path: str) -> None:
        assert (await shut.client.get(path)).status_code == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/nowhere",
            "/metrics",
            "//",
            "/healthz/",
            "/docs/../conversations",
            "/%2e%2e/conversations",
            "//healthz",
            "/healthz%00",
        ],
    )
    async def test_no_other_does(self, shut: Served, path: str) -> None:
        async with connected(shut.port) as wire:
            await wire.send(request("GET", path))
            reply = await wire.reply()
        assert reply.status == 401
        error_in(reply.body, "invalid_api_key")

    @pytest.mark.parametrize(
        "path", ["/web/../conversations", "/web/%2e%2e/conversations", "/web/..%2fconversations"]
    )
    async def test_a_folder_of_files_leads_nowhere_else(self, shut: Served, path: str) -> None:
        async with connected(shut.port) as wire:
            await wire.send(request("GET", path))
            assert (await wire.reply()).status == 404

    @pytest.mark.parametrize(
        "headers",
        [
            bearing("key-of-ann"),
            bearing("key-of-bob"),
            {"authorization": "bearer  key-of-ann"},
            {"api-key": "key-of-ann"},
        ],
    )
    async def test_the_right_one_opens(self, shut: Served, headers: Any) -> None:
        response = await shut.client.get("/conversations", headers=headers)
        assert response.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            bearing("wrong"),
            bearing("key-of-ann2"),
            bearing("ann:key-of-ann"),
            bearing("é"),
            {"authorization": "Basic key-of-ann"},
            {"authorization": "key-of-ann"},
            {"api-key": ""},
            {"cookie": "authorization=Bearer key-of-ann"},
        ],
    )
    async def test_no_other_opens(self, shut: Served, headers: Any) -> None:
        query = {"key": "key-of-ann", "api_key": "key-of-ann", "access_token": "key-of-ann"}
        response = await shut.client.get("/conversations", headers=headers, params=query)
        refused(response, 401, "invalid_api_key")

    async def test_what_is_another_keys_is_nowhere(self, shut: Served) -> None:
        url, ann = str(shut.client.base_url), bearing("key-of-ann")
        async with (
            talking(url, headers=ann) as hers,
            talking(url, headers=bearing("key-of-bob")) as his,
        ):
            turn = (await hers.post("/ask/c1", json={"prompt": "A secret"})).json()
            for method, path in (
                ("GET", "/conversations/c1"),
                ("PATCH", "/conversations/c1"),
                ("DELETE", "/conversations/c1"),
                ("GET", "/conversations/c1/messages"),
                ("GET", "/conversations/c1/events"),
                ("POST", "/conversations/c1/regenerate"),
                ("GET", f"/turns/{turn['id']}"),
                ("POST", f"/turns/{turn['id']}/cancel"),
                ("GET", f"/turns/{turn['id']}/events"),
            ):
                body: Any = {} if method in ("POST", "PATCH") else None
                refused(await his.request(method, path, json=body), 404, "not_found")
            assert (await his.get("/conversations")).json()["data"] == []
            assert (await his.get("/search", params={"q": "secret"})).json()["data"] == []
            own = (await his.post("/ask/c1", json={"prompt": "Mine"})).json()
            assert own["answer"] == "Mine "
            found = (await hers.get("/conversations/c1/messages")).json()["data"]
            assert [one["content"] for one in found] == ["A secret", "A secret "]


class TestStrangePages:
    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "[::2]", "8.8.8.8"]
    )
    async def test_a_host_that_is_not_ours_is_refused(self, served: Served, host: str) -> None:
        response = await served.client.get("/healthz", headers={"host": host})
        refused(response, 403, "permission_denied")

    @pytest.mark.parametrize("host", CROOKED_HOSTS)
    async def test_a_host_that_would_bend_a_url_is_refused(self, shut: Served, host: str) -> None:
        reply = await named(shut.port, "/conversations", host)
        assert reply.status in (401, 403)
        to_all = Auth((), None, microseconds, open_to_all=True, public=True, hosts=["*"])
        to_keys = Auth((), None, microseconds, open_to_all=False, public=True)
        for auth in (to_all, to_keys):
            async with serving(shut.conversations, auth) as lenient:
                reply = await named(lenient.port, "/healthz", host)
                assert reply.status == 403
                error_in(reply.body, "permission_denied")

    @pytest.mark.parametrize("host", CROOKED_HOSTS)
    async def test_no_host_decides_whether_a_key_is_needed(self, shut: Served, host: str) -> None:
        keys = configured("ann:key-of-ann")
        auth = AnyHost(keys, None, microseconds, open_to_all=False, public=False)
        async with serving(shut.conversations, auth) as blind:
            reply = await named(blind.port, "/conversations", host)
        assert reply.status == 401
        error_in(reply.body, "invalid_api_key")

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8000", "a.localhost"])
    async def test_our_own_is_let_in(self, served: Served, host: str) -> None:
        assert (await served.client.get("/healthz", headers={"host": host})).status_code == 200

    @pytest.mark.parametrize("hosts", [0, 2])
    async def test_there_is_one_host(self, served: Served, hosts: int) -> None:
        lines = ["GET /healthz HTTP/1.1", *["Host: localhost"] * hosts, "", ""]
        async with connected(served.port) as wire:
            await wire.send("\r\n".join(lines).encode())
            reply = await wire.reply()
        assert reply.status == 400
        error_in(reply.body, "invalid_request")

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "file://", "http://localhost:1", "x", "http://["]
    )
    async def test_a_page_that_is_not_ours_is_refused(self, served: Served, origin: str) -> None:
        body = {"prompt": "x"}
        response = await served.client.post("/ask/c1", json=body, headers={"origin": origin})
        refused(response, 403, "permission_denied")
        with pytest.raises(NotFoundError):
            await served.conversations.get("default", "c1")

    async def test_our_own_page_is_let_in(self, served: Served) -> None:
        for host in ("localhost", "127.0.0.1"):
            own = f"{host}:{served.port}"
            headers = {"host": own, "origin": f"http://{own}"}
            assert (await served.client.get("/healthz", headers=headers)).status_code == 200

    async def test_a_file_may_be_let_in(self, served: Served) -> None:
        named = load({"allowed_origins": "file://"}).allowed_origins
        auth = Auth((), None, microseconds, open_to_all=True, public=False, origins=named)
        async with serving(served.conversations, auth) as open_to_files:
            response = await open_to_files.client.get("/healthz", headers={"origin": "file://"})
        assert response.status_code == 200

    async def test_others_may_be_let_in(self, served: Served) -> None:
        auth = Auth(
            configured(""),
            None,
            microseconds,
            open_to_all=True,
            public=False,
            origins=["https://chat.example"],
            hosts=["chat.example"],
        )
        async with serving(served.conversations, auth) as open_to_some:
            client = open_to_some.client
            headers = {"host": "chat.example", "origin": "https://chat.example"}
            assert (await client.get("/healthz", headers=headers)).status_code == 200
            headers["origin"] = "https://other.example"
            refused(await client.get("/healthz", headers=headers), 403, "permission_denied")


class TestLog:
    async def test_a_line_names_the_route_and_never_what_was_said(self, served: Served) -> None:
        with structlog.testing.capture_logs() as lines:
            await served.client.post(
                "/ask/named?secret=1",
                json={"prompt": "A secret prompt", "system_prompt": "A secret one"},
                headers={**bearing("secret-key"), b"x-request-id": b"r1"},
            )
            await served.client.get("/secret-path")
        requests = [line for line in lines if line["event"] == "request"]
        assert [line["status"] for line in requests] == [200, 404]
        assert requests[0]["route"] == "/ask/{conversation_id}"
        assert (requests[0]["request_id"], requests[0]["owner"]) == ("r1", "default")
        assert requests[0]["conversation"] == "named"
        assert "secret" not in repr(lines)


async def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    async with serving_anew(tmp_path, Parrot()) as served:
        ask = partial(served.client.post, "/ask/c1", json={"prompt": "x"})
        with closing(sqlite3.connect(tmp_path / "trialogue.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for response in await asyncio.gather(served.client.get("/readyz"), ask()):
                refused(response, 503, "storage_unavailable")
                assert int(response.headers["retry-after"]) >= 1
            assert (await served.client.get("/healthz")).status_code == 200
        assert (await served.client.get("/readyz")).status_code == 200
        assert (await ask()).status_code == 200


class TestSize:
    @pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_the_limit_is_the_settings(
        self, served: Served, size: int, status: int, chunked: bool
    ) -> None:
        body = b'{"prompt": "x"}'.ljust(size)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, size, 100):
                yield body[start : start + 100]

        async with serving(served.conversations, max_body_bytes=1000) as strict:
            headers = {"content-type": "application/json"}
            content = pieces() if chunked else body
            response = await strict.client.post("/ask/c1", content=content, headers=headers)
        assert response.status_code == status

"""Who may come in under `/v1`, and how every refusal of ours looks there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from server.core.access.auth import Auth, configured
from server.core.clock import microseconds
from tests.server.transports.openai.openai_client import CHAT, MESSAGES, Pair, error_of, passing
from tests.support import access
from tests.support.upstream_script import MODEL

ROUTES = [
    "chat/completions",
    "completions",
    "models",
    "models/x",
    "embeddings",
    "moderations",
    "engines",
    "engines/x/completions",
    "text_completion",
    "edits",
    "internal/logits",
    "files",
    "responses",
    "",
    "nonsense",
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[Pair]:
    async with passing(tmp_path, access.locked("ann:right")) as found:
        yield found


@pytest.fixture
async def foreign(tmp_path: Path) -> AsyncIterator[Pair]:
    origins = ("https://page.example",)
    keys = configured("ann:right")
    auth = Auth(keys, None, microseconds, open_to_all=False, public=False, origins=origins)
    async with passing(tmp_path, auth) as found:
        yield found


class TestKeys:
    async def test_every_route_and_method_asks_for_one(self, locked: Pair) -> None:
        served, upstream = locked
        for route in ROUTES:
            for method in METHODS:
                response = await served.client.request(method, f"/v1/{route}")
                error = error_of(response, 401, "invalid_api_key")
                assert error["type"] == "invalid_request_error"
                assert response.headers["www-authenticate"] == "Bearer"
        assert upstream.requests == []

    async def test_openais_client_raises_it(self, locked: Pair) -> None:
        served, _ = locked
        with pytest.raises(openai.AuthenticationError) as refused:
            await served.openai.models.list()
        assert refused.value.code == "invalid_api_key"

    async def test_the_right_one_opens_however_it_is_shown(self, locked: Pair) -> None:
        served, upstream = locked
        ways = [
            {"authorization": "Bearer right"},
            {"authorization": "bearer  right"},
            {"api-key": "right"},
        ]
        for headers in ways:
            path = "/v1/chat/completions?api-version=2024-10-21"
            response = await served.client.post(path, json=CHAT, headers=headers)
            assert response.status_code == 200
        for request in upstream.requests:
            assert request.path == "/v1/chat/completions"
            assert "right" not in str(request.headers)

    async def test_a_wrong_one_does_not(self, locked: Pair) -> None:
        served, _ = locked
        for key in ("wrong", "righ", "right1", "é", "' or 1=1 --"):
            headers = {"authorization": f"Bearer {key}".encode()}
            response = await served.client.post("/v1/chat/completions", json=CHAT, headers=headers)
            error_of(response, 401, "invalid_api_key")


class TestPages:
    async def test_a_browser_asks_first_without_a_key(self, foreign: Pair) -> None:
        served, upstream = foreign
        response = await served.client.options(
            "/v1/chat/completions",
            headers={
                "origin": "https://page.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type,x-stainless-os",
                "access-control-request-private-network": "true",
            },
        )
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == "https://page.example"
        assert response.headers["access-control-allow-methods"] == "POST"
        assert response.headers["access-control-allow-headers"] == (
            "authorization,content-type,x-stainless-os"
        )
        assert response.headers["access-control-allow-private-network"] == "true"
        assert "origin" in response.headers["vary"]
        assert response.headers["x-request-id"]
        assert upstream.requests == []

    async def test_and_may_read_the_answer(self, foreign: Pair) -> None:
        served, _ = foreign
        headers = {"origin": "https://page.example", "authorization": "Bearer right"}
        for path in ("/v1/models", "/conversations"):
            response = await served.client.get(path, headers=headers)
            assert response.status_code == 200
            assert response.headers["access-control-allow-origin"] == "https://page.example"
            assert response.headers["access-control-expose-headers"] == "*"

    async def test_and_the_refusal(self, foreign: Pair) -> None:
        served, _ = foreign
        response = await served.client.get("/v1/models", headers={"origin": "https://page.example"})
        error_of(response, 401, "invalid_api_key")
        assert response.headers["access-control-allow-origin"] == "https://page.example"

    async def test_another_page_may_not(self, foreign: Pair) -> None:
        served, upstream = foreign
        headers = {
            "origin": "https://evil.example",
            "authorization": "Bearer right",
            "access-control-request-method": "POST",
        }
        for method in ("GET", "POST", "OPTIONS"):
            response = await served.client.request(method, "/v1/models", headers=headers)
            error_of(response, 403)
            assert "access-control-allow-origin" not in response.headers
        assert upstream.requests == []

    async def test_every_page_may_where_all_are_let_in(self, tmp_path: Path) -> None:
        auth = Auth([], None, microseconds, open_to_all=True, public=False, origins=("*",))
        async with passing(tmp_path, auth) as (served, _):
            response = await served.client.get(
                "/v1/models", headers={"origin": "https://a.example"}
            )
            assert response.headers["access-control-allow-origin"] == "https://a.example"


class TestRefusals:
    async def test_a_wrong_method(self, pair: Pair) -> None:
        served, upstream = pair
        wrong = {
            "chat/completions": "PUT",
            "completions": "PUT",
            "models": "POST",
            "embeddings": "DELETE",
            "moderations": "OPTIONS",
            "engines/x/completions": "GET",
            "edits": "GET",
        }
        for path, method in wrong.items():
            response = await served.client.request(method, f"/v1/{path}")
            error_of(response, 405, "method_not_supported")
            assert response.headers["allow"]
        assert upstream.requests == []

    async def test_no_route_at_all(self, pair: Pair) -> None:
        served, _ = pair
        for path in ("/v1", "/v1/"):
            error_of(await served.client.get(path), 404, "unknown_url")

    async def test_a_body_that_is_no_json_object(self, pair: Pair) -> None:
        served, upstream = pair
        bodies = [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"{'a': 1}", b'{"a": NaN}']
        for path in ("chat/completions", "completions", "embeddings", "moderations", "edits"):
            for body in (*bodies, b"[" * 100_000):
                response = await served.client.post(f"/v1/{path}", content=body)
                assert "JSON body" in error_of(response, 400)["message"]
        assert upstream.requests == []

    async def test_names_that_are_not_ascii_are_told_in_ascii(self, pair: Pair) -> None:
        served, _ = pair
        body = {"model": "m", "messages": [{"role": "模型\n", "content": "x"}]}
        response = await served.client.post("/v1/chat/completions", json=body)
        error_of(response, 400, "invalid_value")

    async def test_the_server_is_shutting_down(self, pair: Pair) -> None:
        served, _ = pair
        await served.conversations.drain(0)
        response = await served.client.post("/v1/chat/completions", json=CHAT)
        assert error_of(response, 503)["type"] == "server_error"
        assert response.headers["retry-after"]
        with pytest.raises(openai.InternalServerError):
            await served.openai.chat.completions.create(model=MODEL, messages=MESSAGES)  # type: ignore[arg-type]

    async def test_a_clients_request_id_is_kept(self, pair: Pair) -> None:
        served, _ = pair
        response = await served.client.get("/v1/models", headers={"x-request-id": "mine"})
        assert response.headers["x-request-id"] == "mine"

"""What browsers are shown, what that may load, and how the API describes itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import pytest_asyncio

from server import VERSION
from server.transports.rest.app import PUBLIC
from tests.server.transports.rest.http_client import Served, refused, serving_anew
from tests.support.fakes import Parrot

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("/", "/docs")
LOADING = {"src", "href", "action", "data", "srcset", "poster", "formaction", "background"}
ROUTES = {
    "/ask/{conversation_id}": {"post"},
    "/turns/{turn_id}": {"get"},
    "/turns/{turn_id}/cancel": {"post"},
    "/turns/{turn_id}/events": {"get"},
    "/conversations": {"get", "post"},
    "/conversations/{conversation_id}": {"get", "patch", "delete"},
    "/conversations/{conversation_id}/messages": {"get"},
    "/conversations/{conversation_id}/events": {"get"},
    "/conversations/{conversation_id}/regenerate": {"post"},
    "/conversations/{conversation_id}/context": {"post"},
    "/search": {"get"},
    "/metrics": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving_anew(tmp_path_factory.mktemp("pages"), Parrot()) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def described(served: Served) -> Any:
    response = await served.client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return response.json()


class Loads(HTMLParser):
    """Collects what a page loads, and what it would run or wear that stands in itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [str(value) for name, value in attrs if name in LOADING]
        self.inline += [name for name in given if name.startswith("on")]
        if tag in ("iframe", "object", "embed", "base") or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def directives(policy: str) -> dict[str, list[str]]:
    parts = [part.split() for part in policy.split(";") if part.strip()]
    return {name: values for name, *values in parts}


class TestPages:
    @pytest.mark.parametrize("path", PAGES)
    async def test_a_page_loads_only_what_is_ours(self, served: Served, path: str) -> None:
        response = await served.client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        page = Loads(response.text)
        assert page.inline == []
        loaded = [one for one in page.addresses if not one.startswith(("#", "data:"))]
        assert loaded
        for address in loaded:
            assert re.match(r"[a-z]+(/|$)", address), address  # beside the page, wherever that is
            assert (await served.client.get(f"/{address}")).status_code == 200

    @pytest.mark.parametrize("path", PAGES)
    async def test_its_policy_forbids_everything_else(self, served: Served, path: str) -> None:
        headers = (await served.client.get(path)).headers
        policy = directives(headers["content-security-policy"])
        assert policy["default-src"] == ["'none'"]
        assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
        assert policy["script-src"] == ["'self'"]
        for name, values in policy.items():
            more = {"'unsafe-inline'"} if (path, name) == ("/docs", "style-src") else set()
            more |= {"data:"} if name == "img-src" else set()
            if (path, name) == ("/", "connect-src"):
                more |= {"ws://127.0.0.1:9001", "wss://127.0.0.1:9001"}
            assert set(values) - more <= {"'self'", "'none'"}, name
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"

    async def test_it_may_speak_to_its_own_origin_alone(self, served: Served) -> None:
        headers = (await served.client.get("/")).headers
        assert directives(headers["content-security-policy"])["connect-src"] == ["'self'"]

    async def test_our_own_scripts_name_no_other_place(self, served: Served) -> None:
        for path in PAGES:
            page = Loads((await served.client.get(path)).text)
            ours = [one for one in page.addresses if "swagger-ui" not in one]
            for address in ours:
                text = (await served.client.get(f"/{address}")).text
                foreign = re.findall(r"(?:https?|wss?)://(?!www\.w3\.org/)[\w.-]+", text)
                assert foreign == [], address

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("swagger-ui.css", "text/css; charset=utf-8"),
            ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
            ("docs/docs.js", "text/javascript; charset=utf-8"),
        ],
    )
    async def test_a_file_says_what_it_is(self, served: Served, name: str, kind: str) -> None:
        response = await served.client.get(f"/web/{name}")
        assert (response.status_code, response.headers["content-type"]) == (200, kind)

    @pytest.mark.parametrize(
        "name", ["__init__.py", "grpc_client.py", "nothing.js", "", "base", "base/%2e%2e/app.js"]
    )
    async def test_other_files_are_not_shown(self, served: Served, name: str) -> None:
        refused(await served.client.get(f"/web/{name}"), 404, "not_found")

    async def test_the_page_is_told_its_release(self, served: Served) -> None:
        told = (await served.client.get("/web/config.json")).json()
        assert (told["version"], told["grpc_port"]) == (VERSION, None)
        assert told.keys() == {"version", "grpc_port", "libraries", "port"}
        assert told["port"] == served.port


class TestWebsocketPath:
    async def test_who_asks_for_none_is_told_what_it_is(self, served: Served) -> None:
        response = await served.client.get("/ws")
        told = refused(response, 426, "invalid_request")
        assert "proxy" in told["message"]
        assert response.headers["upgrade"] == "websocket"
        assert response.headers["connection"] == "upgrade"

    async def test_who_asks_in_vain_is_told_why(self, served: Served) -> None:
        headers = {"connection": "upgrade", "upgrade": "websocket"}
        told = refused(await served.client.get("/ws", headers=headers), 400, "invalid_request")
        assert "without a body" in told["message"]


def operations(described: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(of: Any) -> Iterator[str]:
    match of:
        case {"$ref": str(name)}:
            yield name
        case dict():
            for value in of.values():
                yield from references(value)
        case list():
            for value in of:
                yield from references(value)


class TestDescription:
    async def test_every_route_is_there(self, described: Any) -> None:
        found = {path: set(methods) for path, methods in described["paths"].items()}
        assert {path: found.get(path) for path in ROUTES} == ROUTES

    async def test_every_operation_says_what_it_does_and_answers(self, described: Any) -> None:
        names = []
        for path, method, operation in operations(described):
            names.append(operation["operationId"])
            assert operation.get("description") or operation["summary"]
            answers = operation["responses"]
            good = [status for status in answers if status.startswith("2")]
            assert len(good) == 1, (path, method)
            assert {"400", "403", "429"} <= answers.keys()
            assert ("401" in answers) == (path not in PUBLIC), path
            assert "405" not in answers
        assert len(set(names)) == len(names)

    async def test_every_error_has_the_one_shape(self, described: Any) -> None:
        for _, _, operation in operations(described):
            for status, answer in operation["responses"].items():
                if status >= "4":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}

    async def test_what_streams_says_so(self, described: Any) -> None:
        streaming = {
            (path, method)
            for path, method, operation in operations(described)
            for answer in operation["responses"].values()
            if "text/event-stream" in answer.get("content", {})
        }
        assert streaming == {
            ("/ask/{conversation_id}", "post"),
            ("/events", "get"),
            ("/turns/{turn_id}/events", "get"),
            ("/conversations/{conversation_id}/events", "get"),
            ("/conversations/{conversation_id}/regenerate", "post"),
        }

    async def test_a_json_answer_has_a_shape(self, described: Any) -> None:
        for path, method, operation in operations(described):
            for status, answer in operation["responses"].items():
                schema = answer.get("content", {}).get("application/json", {"schema": {"$ref": ""}})
                told = schema["schema"]
                assert "$ref" in told or told["type"] == "object", (path, method, status)

    async def test_every_reference_leads_somewhere(self, described: Any) -> None:
        shapes = described["components"]["schemas"]
        for name in references(described):
            assert name.removeprefix("#/components/schemas/") in shapes

    async def test_it_says_how_to_show_a_key(self, described: Any) -> None:
        schemes = described["components"]["securitySchemes"].values()
        assert {"type": "http", "scheme": "bearer"} in [
            {name: scheme[name] for name in ("type", "scheme")} for scheme in schemes
        ]

    async def test_a_method_that_is_not_there_says_which_are(
        self, served: Served, described: Any
    ) -> None:
        for path, methods in described["paths"].items():
            url = re.sub(r"\{\w+\}", "x", path)
            response = await served.client.request("TRACE", url)
            refused(response, 405, "invalid_request")
            allowed = {one.strip().lower() for one in response.headers["allow"].split(",")}
            assert allowed >= set(methods), path


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/health", "/readyz", "/metrics"])
async def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    told, shown = await served.client.head(path), await served.client.get(path)
    assert (told.status_code, told.content) == (200, b"")
    for name in ("content-type", "content-security-policy"):
        assert told.headers[name] == shown.headers[name]
    assert int(told.headers["content-length"]) > 0

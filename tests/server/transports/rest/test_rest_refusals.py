"""What REST refuses, and that it leaves no trace."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import structlog

from tests.server.transports.rest.http_client import (
    Reply,
    Served,
    connected,
    error_in,
    refused,
    request,
    serving_anew,
)
from tests.support.fakes import Puppet

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "Content-Type: application/json"
MiB = bytes(1 << 20)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """One server for all: whatever is refused changes nothing."""
    with structlog.testing.capture_logs():
        async with serving_anew(tmp_path_factory.mktemp("refusals"), Puppet()) as server:
            yield server


@pytest_asyncio.fixture(loop_scope="module")
async def untouched(served: Served) -> AsyncIterator[Served]:
    """The server, of which nothing may be different afterwards."""
    yield served
    left = (await served.conversations.page("default")).items
    for conversation in left:
        await served.conversations.delete("default", conversation.id)
    assert left == ()
    assert served.conversations.running == 0


async def sent(served: Served, *data: bytes) -> Reply:
    async with connected(served.port) as wire:
        for piece in data:
            await wire.send(piece)
        return await wire.reply()


def nested(depth: int, inside: bytes = b"1") -> bytes:
    return b'{"a":' * depth + inside + b"}" * depth


BODIES = {
    "none": b"",
    "white space": b" ",
    "broken": b'{"prompt": "x"',
    "trailing": b'{"prompt": "x"} {}',
    "no object": b'["x"]',
    "text": b'"x"',
    "null": b"null",
    "no prompt": b"{}",
    "empty prompt": b'{"prompt": ""}',
    "blank prompt": '{"prompt": " \u3000\\n"}'.encode(),
    "prompt and content": b'{"prompt": "x", "content": "y"}',
    "prompt of another type": b'{"prompt": 1}',
    "prompt is an object": b'{"prompt": {"a": "b"}}',
    "unknown field": b'{"prompt": "x", "promt": "y"}',
    "unknown field, half a pair": b'{"prompt": "x", "\\ud800": "y"}',
    "NUL": b'{"prompt": "a\\u0000b"}',
    "half a pair": b'{"prompt": "\\ud83d"}',
    "the other half": b'{"prompt": "a\\ude00b"}',
    "half a pair in a part": b'{"content": [{"type": "text", "text": "\\ud83d"}]}',
    "half a pair in bytes": b'{"prompt": "\xed\xa0\x80"}',
    "no UTF-8": b'{"prompt": "\xff"}',
    "Latin-1": '{"prompt": "é"}'.encode("latin-1"),
    "no parts": b'{"content": []}',
    "unknown part": b'{"content": [{"type": "sound"}]}',
    "part is no object": b'{"content": ["x"]}',
    "nested arrays": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": nested(100_000),
    "nested and open": b"[" * 100_000,
    "number of many digits": b'{"prompt": "x", "seed": ' + b"9" * 5_000 + b"}",
    "number too large": b'{"prompt": "x", "seed": 9223372036854775808}',
    "no whole number": b'{"prompt": "x", "max_tokens": 1.5}',
    "number as text": b'{"prompt": "x", "max_tokens": "1"}',
    "number as truth": b'{"prompt": "x", "max_tokens": true}',
    "no tokens": b'{"prompt": "x", "max_tokens": 0}',
    "no number": b'{"prompt": "x", "temperature": NaN}',
    "infinite": b'{"prompt": "x", "temperature": Infinity}',
    "too hot": b'{"prompt": "x", "temperature": 2.1}',
    "top_p": b'{"prompt": "x", "top_p": -0.1}',
    "stops": b'{"prompt": "x", "stop": ["1", "2", "3", "4", "5"]}',
    "empty stop": b'{"prompt": "x", "stop": ""}',
    "if_busy": b'{"prompt": "x", "if_busy": "never"}',
    "on_disconnect": b'{"prompt": "x", "on_disconnect": null, "stream": 1}',
    "model": b'{"prompt": "x", "model": "a\\nb"}',
    "no model": b'{"prompt": "x", "model": ""}',
    "system prompt": b'{"prompt": "x", "system_prompt": "\\u0000"}',
}


@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_question_that_is_none(untouched: Served, what: str, stream: bool) -> None:
    accept = ["Accept: text/event-stream"] if stream else []
    reply = await sent(untouched, request("POST", "/ask/c1", BODIES[what], *accept))
    assert reply.status == 400
    error_in(reply.body, "invalid_request")


async def test_a_parent_that_is_nowhere(untouched: Served) -> None:
    asked = {"prompt": "x", "parent_id": "msg_nowhere"}
    response = await untouched.client.post("/ask/c1", json=asked)
    assert refused(response, 404, "not_found")["param"] == "parent_id"


async def test_a_prompt_over_the_budget(untouched: Served) -> None:
    response = await untouched.client.post("/ask/c1", json={"prompt": "word " * 130_000})
    error = refused(response, 400, "context_length_exceeded")
    assert error["message"].startswith("This model's maximum context length is 128000 tokens")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json", ""]
)
async def test_a_body_that_does_not_say_that_it_is_json(untouched: Served, kind: str) -> None:
    """A web page may send such bodies to anywhere without being asked for permission first."""
    body = b'{"prompt": "x"}'
    headers = [f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    reply = await sent(untouched, request("POST", "/ask/c1", body, *headers, framing=False))
    assert reply.status == 400
    assert "content-type application/json" in error_in(reply.body, "invalid_request")["message"]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_that_is_packed(
    untouched: Served, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    """None is unpacked: what it would become has no bound."""
    headers = (JSON, f"Content-Encoding: {coding}")
    asked = b'{"prompt": "x", "stream": true}'
    for path, body in (("/ask/c1", asked), ("/conversations", b'{"id": "c1"}')):
        packed = pack(body)
        length = f"Content-Length: {len(packed)}"
        data = request("POST", path, packed, *headers, length, framing=False)
        reply = await sent(untouched, data)
        assert reply.status in (400, 415)
        error_in(reply.body, "invalid_request")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a" * 129, 400),
        ("..", 400),
        (".", 400),
        ("%2e%2e", 400),
        ("%2E", 400),
        ("..%2f..%2fetc%2fpasswd", 404),
        ("../../etc/passwd", 404),
        ("a%2fb", 404),
        ("a%5cb", 400),
        ("%00", 400),
        ("a%00b", 400),
        ("a%0d%0ab", 400),
        ("%ed%a0%80", 400),
        ("%ff", 400),
        ("%F0%9F%98%80", 400),
        ("-a", 400),
        ("a%20b", 400),
        ("a%0a", 400),
        ("%d9%a1", 400),
    ],
)
@pytest.mark.parametrize("method", ["ask", "read", "make"])
async def test_an_id_that_is_none(untouched: Served, name: str, status: int, method: str) -> None:
    if method == "ask":
        data = request("POST", f"/ask/{name}", b'{"prompt": "x"}')
    elif method == "read":
        data = request("GET", f"/conversations/{name}")
    else:
        id_ = name.replace("%", "\\\\u00")[:140]
        data, status = request("POST", "/conversations", f'{{"id": "{id_}"}}'.encode()), 400
    reply = await sent(untouched, data)
    assert reply.status == status
    error_in(reply.body, "invalid_request" if status == 400 else "not_found")


async def test_the_longest_id_there_is(served: Served) -> None:
    name = "A" + "z.9_:~-" * 18 + "a"
    assert len(name) == 128
    made = await served.client.post("/conversations", json={"id": name})
    assert made.status_code == 201
    assert (await served.client.delete(f"/conversations/{name}")).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"id": 1}',
        b'{"title": 1}',
        b'{"title": "\\u0000"}',
        b'{"title": "%b"}' % (b"x" * 201),
        b'{"metadata": []}',
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": "\\ud800"}}',
        b'{"metadata": {"\\ud800": 1}}',
        b'{"metadata": {"a": "%b"}}' % (b"x" * 17_000),
        pytest.param(b'{"metadata": %b}' % nested(40), id="40 deep"),
        pytest.param(b'{"metadata": %b}' % nested(900), id="900 deep"),
        pytest.param(b'{"metadata": {"a": %b}}' % (b"[" * 900 + b"]" * 900), id="900 lists"),
        b'{"head_id": "x"}',
        b'{"created_at": "2020-01-01T00:00:00Z"}',
        b'{"object": "conversation"}',
    ],
)
async def test_a_conversation_that_cannot_be(untouched: Served, body: bytes) -> None:
    reply = await sent(untouched, request("POST", "/conversations", body))
    assert reply.status == 400
    error_in(reply.body, "invalid_request")


@pytest.mark.parametrize(
    "change",
    [
        {"title": None},
        {"title": 3},
        {"metadata": None},
        {"head_id": None},
        {"truncation": "never"},
        {"id": "c2"},
        {"owner": "me"},
        {"message_count": 3},
    ],
)
async def test_a_change_that_cannot_be(served: Served, change: dict[str, Any]) -> None:
    before = (await served.client.post("/conversations", json={"id": "c1"})).json()
    response = await served.client.patch("/conversations/c1", json=change)
    after = (await served.client.get("/conversations/c1")).json()
    await served.client.delete("/conversations/c1")
    refused(response, 400, "invalid_request")
    assert after == before


@pytest.mark.parametrize(
    "query",
    [
        "/conversations?limit=0",
        "/conversations?limit=101",
        "/conversations?limit=-1",
        "/conversations?limit=1e2",
        "/conversations?limit=%00",
        "/conversations?limit=" + "9" * 5_000,
        "/search",
        "/search?q=",
        "/search?q=%20",
        "/search?q=a&role=nobody",
        "/search?q=a&created_after=yesterday",
        "/search?q=a&created_after=-99999999999999999999",
        "/search?q=a&limit=0",
    ],
)
async def test_a_query_that_is_none(untouched: Served, query: str) -> None:
    reply = await sent(untouched, request("GET", query))
    assert reply.status == 400
    error_in(reply.body, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "/conversations?after=nowhere",
        "/conversations/c1/messages?leaf=%ff",
        "/turns/%ed%a0%80",
        "/turns/turn_x/events",
        "/nowhere",
        "/ask/",
        "/v0/%2e%2e/%2e%2e/etc/passwd",
        "/web/..%2f..%2fpyproject.toml",
        "/web/nothing.js",
    ],
)
async def test_what_is_nowhere(untouched: Served, query: str) -> None:
    reply = await sent(untouched, request("GET", query))
    assert reply.status == 404
    error_in(reply.body, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "/conversations?after=%00",
        "/conversations?q=%00",
        "/conversations/c1/messages?leaf=%00",
        "/search?q=%00",
        "/search?q=a&conversation_id=%00",
        "/turns/%00",
        "/turns/" + "x" * 10_000,
    ],
)
async def test_what_cannot_be_anywhere(untouched: Served, query: str) -> None:
    """Whether it is wrong or not there is one and the same to a caller."""
    reply = await sent(untouched, request("GET", query))
    if reply.status != 200:
        assert reply.status in (400, 404)
        error_in(reply.body, "invalid_request" if reply.status == 400 else "not_found")
    else:
        assert json.loads(reply.body)["data"] == []


async def test_a_search_may_be_for_anything(served: Served) -> None:
    for q in ('"', "*", "a AND", "NEAR(", "' OR 1=1 --", "😀", "%_"):
        response = await served.client.get("/search", params={"q": q})
        assert (response.status_code, response.json()["data"]) == (200, [])


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_100_mb(untouched: Served, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield MiB

    headers = {"content-type": "application/json"}
    if not chunked:
        headers["content-length"] = str(100 << 20)
    response = await untouched.client.post("/ask/c1", content=pieces(), headers=headers)
    error = refused(response, 413, "request_too_large")
    assert "TRIALOGUE_MAX_BODY_BYTES" in error["message"]


async def test_a_body_that_stops_half_way(untouched: Served) -> None:
    async with connected(untouched.port) as wire:
        await wire.send(request("POST", "/ask/c1", b'{"prompt": "x"}')[:-1])
        await asyncio.sleep(0)
    assert (await untouched.client.get("/healthz")).status_code == 200


async def test_a_method_that_is_not_for_that(untouched: Served) -> None:
    response = await untouched.client.put("/ask/c1", json={"prompt": "x"})
    refused(response, 405, "invalid_request")
    assert response.headers["allow"] == "POST"


async def test_an_idempotency_key_that_is_too_long(untouched: Served) -> None:
    headers = {"idempotency-key": "k" * 256}
    response = await untouched.client.post("/ask/c1", json={"prompt": "x"}, headers=headers)
    assert refused(response, 400, "invalid_request")["param"] == "idempotency-key"

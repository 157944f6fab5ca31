"""What is not there is named: a model by OpenAI's own code, a route by whose it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.upstream.local.eliza.eliza import Eliza
from server.upstream.local.service import ElizaApi
from server.upstream.pool import PoolMember
from tests.server.transports.openai.openai_client import (
    MESSAGES,
    Pair,
    error_of,
    member,
    passage,
    serving,
)
from tests.support.upstream_script import document, fail
from tests.support.upstream_server import ScriptedUpstream

#: every route that names a model: method, path, body, headers
NAMING: list[tuple[str, str, dict[str, Any] | None, dict[str, str]]] = [
    ("POST", "chat/completions", {"model": "nope", "messages": MESSAGES}, {}),
    ("POST", "chat/completions", {"model": "nope", "messages": MESSAGES, "stream": True}, {}),
    ("POST", "chat/completions", {"model": "nope", "messages": MESSAGES, "store": True}, {}),
    (
        "POST",
        "chat/completions",
        {"model": "nope", "messages": MESSAGES},
        {"x-conversation-id": "a"},
    ),
    (
        "POST",
        "chat/completions",
        {"model": "nope", "messages": MESSAGES, "stream": True},
        {"x-conversation-id": "b"},
    ),
    ("POST", "completions", {"model": "nope", "prompt": "x"}, {}),
    ("POST", "completions", {"model": "nope", "prompt": "x", "stream": True}, {}),
    ("POST", "embeddings", {"model": "nope", "input": "x"}, {}),
    ("POST", "moderations", {"model": "nope", "input": "x"}, {}),
    ("GET", "models/nope", None, {}),
    ("GET", "engines/nope", None, {}),
    ("POST", "engines/nope/chat/completions", {"messages": MESSAGES}, {}),
    ("POST", "engines/nope/completions", {"prompt": "x"}, {}),
    ("POST", "engines/nope/generate", {"context": "x"}, {}),
    ("POST", "engines/nope/embeddings", {"input": "x"}, {}),
    ("POST", "text_completion", {"model": "nope", "prompt": "x"}, {}),
    ("POST", "edits", {"model": "nope", "instruction": "x"}, {}),
    ("POST", "internal/logits", {"model": "nope", "prompt": "x"}, {}),
    ("POST", "images/generations", {"model": "nope", "prompt": "x"}, {}),
]
#: how servers say that they do not know a model
WORDS: list[Any] = [
    {"error": {"message": 'model "nope" not found, try pulling it first', "type": "api_error"}},
    {"object": "error", "message": "The model `nope` does not exist.", "code": 404},
    {"error": "No such model: nope"},
    {"detail": "Model 'nope' doesn't exist"},
]
NO_ROUTE: list[Any] = [
    {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}},
    {"detail": "Not Found"},
    b"404 page not found\n",
    b"<html><h1>Not Found</h1></html>",
    b"",
]


@pytest.mark.parametrize("words", [None, *WORDS], ids=str)
async def test_an_unknown_model_on_every_route(tmp_path: Path, words: Any) -> None:
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream:
        patterns = ("gpt-*",) if words is None else ("*",)
        async with serving(tmp_path, [member(passage(upstream), models=patterns)]) as served:
            for method, path, body, headers in NAMING:
                if words is not None:
                    upstream.script(*[document(words, status=404)] * 2)
                answer = await served.client.request(
                    method, f"/v1/{path}", json=body, headers=headers
                )
                error_of(answer, 404, "model_not_found")


async def test_another_404_keeps_its_own_code(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(fail(404, "No tool of the model has a file.", code="tool_not_found"))
    body = {"model": "m", "messages": MESSAGES}
    error_of(await served.client.post("/v1/chat/completions", json=body), 404, "tool_not_found")


@pytest.mark.parametrize("words", NO_ROUTE, ids=str)
async def test_a_model_of_a_server_that_has_no_such_route(pair: Pair, words: Any) -> None:
    served, upstream = pair
    for path in ("models/nope", "engines/nope"):
        upstream.unknown_model = document(words, status=404)
        answer = await served.client.get(f"/v1/{path}")
        assert "nope" in error_of(answer, 404, "model_not_found")["message"]


@pytest.mark.parametrize("name", ["..%2Ffiles", "..%5Cfiles", "a%2F..%2F..%2Ffiles", "%2E%2E"])
async def test_a_name_that_leads_elsewhere_is_no_models_and_no_fault_of_the_upstream(
    pair: Pair, name: str
) -> None:
    served, upstream = pair
    start = len(upstream.requests)
    for path in ("models", "engines", "nonsense") * 2:
        answer = await served.client.get(f"/v1/{path}/{name}")
        assert answer.status_code == 404, answer.text
    assert [one.path for one in upstream.requests[start:] if "files" in one.path] == []
    told = await served.client.get("/v1/models/nope")
    assert "nope" in error_of(told, 404, "model_not_found")["message"]
    assert [state.failures for state in served.upstreams.state()] == [0]


@pytest.mark.parametrize("words", NO_ROUTE, ids=str)
async def test_a_route_that_the_upstream_has_not(pair: Pair, words: Any) -> None:
    served, upstream = pair
    upstream.script(document(words, status=404))
    answer = await served.client.post("/v1/nonsense", json={})
    message = error_of(answer, 404, "unknown_url")["message"]
    assert message == "Unknown request URL: POST /v1/nonsense. The upstream has no such route."


async def test_a_thing_that_the_upstream_has_not_is_told_in_its_words(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(document({"detail": "Not Found"}, status=404))
    answer = await served.client.post("/v1/vector_stores/vs_1", json={})
    assert error_of(answer, 404)["message"] == "Not Found"


async def test_a_route_that_there_is_not_without_an_upstream(tmp_path: Path) -> None:
    built_in = PoolMember("eliza", Eliza(), ElizaApi(embeddings=None), local=True)
    async with serving(tmp_path, [built_in]) as served:
        for path, who in (("/images/generations", "The built-in Eliza"), ("", "This server")):
            message = error_of(await served.client.get(f"/v1{path}"), 404, "unknown_url")["message"]
            assert who in message
            assert "typo" not in message

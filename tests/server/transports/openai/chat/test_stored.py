"""Chat completions with `store: true`, by OpenAI's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from server.tokens.request import prompt_tokens, text_tokens
from tests.server.transports.openai.openai_client import (
    CHAT,
    MESSAGES,
    Pair,
    error_of,
    events_of,
    passing,
)
from tests.support.access import ANN, BOB, two_keys
from tests.support.upstream_script import MODEL, Exchange, cut, document, event, fail, say

STORED = {**CHAT, "store": True}


async def stored(pair: Pair, text: str, **given: Any) -> ChatCompletion:
    served, upstream = pair
    upstream.script(say(text))
    asked = {"model": MODEL, "messages": MESSAGES, "store": True, **given}
    answer = await served.openai.chat.completions.create(**asked)
    assert isinstance(answer, ChatCompletion)
    return answer


async def test_what_is_stored_is_what_was_answered(pair: Pair) -> None:
    served, upstream = pair
    answer = await stored(pair, "Hi", metadata={"team": "red"})
    found = await served.openai.chat.completions.retrieve(answer.id)
    assert found == answer
    ChatCompletion.model_validate(json.loads(found.to_json()), strict=True)
    assert found.metadata == {"team": "red"}
    assert found.usage is not None
    # The upstream is not asked to keep it too.
    assert set(upstream.requests[0].body) == {"model", "messages"}


@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream_is_stored_whole(pair: Pair, usage: bool) -> None:
    served, upstream = pair
    upstream.script(say("Hé", "llo ", "😀"))
    options = {"stream_options": {"include_usage": True}} if usage else {}
    response = await served.client.post(
        "/v1/chat/completions", json={**STORED, "stream": True, **options}
    )
    *chunks, done = events_of(response.content)
    assert done == "[DONE]"
    assert (chunks[-1]["choices"] == []) is usage
    (id_,) = {chunk["id"] for chunk in chunks}
    found = await served.openai.chat.completions.retrieve(id_)
    assert found.choices[0].message.content == "Héllo 😀"
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.total_tokens == 18


@pytest.mark.parametrize("joined", [True, False])
async def test_no_usage_is_seen_in_a_stream_that_was_not_asked_for(
    pair: Pair, joined: bool
) -> None:
    served, upstream = pair

    async def with_null(exchange: Exchange) -> None:
        pieces = [exchange.piece("Hi"), exchange.piece(None, "stop")]
        await say(*[event(one | {"usage": None}) for one in pieces], finish=None)(exchange)

    upstream.script(with_null)
    headers = {"x-conversation-id": "new"} if joined else {}
    body = {**CHAT, "stream": True, "store": not joined}
    response = await served.client.post("/v1/chat/completions", json=body, headers=headers)
    *chunks, done = events_of(response.content)
    assert done == "[DONE]"
    assert chunks
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("stream", [True, False])
async def test_one_has_a_usage_where_the_upstream_tells_none(pair: Pair, stream: bool) -> None:
    served, upstream = pair
    upstream.script(say("Hello", usage=None))
    response = await served.client.post("/v1/chat/completions", json={**STORED, "stream": stream})
    id_ = events_of(response.content)[0]["id"] if stream else response.json()["id"]
    found = await served.openai.chat.completions.retrieve(id_)
    assert found.usage is not None
    assert found.usage.prompt_tokens == prompt_tokens(MODEL, MESSAGES)
    assert found.usage.completion_tokens == text_tokens(MODEL, "Hello")


async def test_its_headers_are_those_of_the_straight_path(pair: Pair) -> None:
    served, upstream = pair
    own = {"x-ratelimit-limit-requests": "5", "openai-version": "1", "x-request-id": "theirs"}
    told = document({"choices": [{"message": {"content": "Hi"}}]}, headers=own)
    upstream.script(told, told)
    for body in (STORED, CHAT):
        response = await served.client.post("/v1/chat/completions", json=body)
        assert response.headers["x-ratelimit-limit-requests"] == "5"
        assert response.headers["openai-version"] == "1"
        assert response.headers["x-upstream-request-id"] == "theirs"
        assert response.headers["content-length"] == str(len(response.content))


async def test_no_page_is_behind_what_is_not_there(pair: Pair) -> None:
    served, _ = pair
    answer = await stored(pair, "Hi")
    for path in ("", f"/{answer.id}/messages"):
        response = await served.client.get(f"/v1/chat/completions{path}?after=nope")
        assert error_of(response, 404)["param"] == "after"


async def test_calls_of_tools_are_put_together(pair: Pair) -> None:
    served, upstream = pair

    def delta(call: dict[str, Any]) -> bytes:
        choice = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}
        return event({"choices": [{**choice, "finish_reason": None}]})

    head = {"id": "call_1", "type": "function", "function": {"name": "sum", "arguments": ""}}
    pieces = [delta({"function": {"arguments": piece}}) for piece in ('{"a":', " 1}")]
    upstream.script(say(delta(head), *pieces, finish="tool_calls"))
    response = await served.client.post("/v1/chat/completions", json={**STORED, "stream": True})
    id_ = events_of(response.content)[0]["id"]
    (choice,) = (await served.openai.chat.completions.retrieve(id_)).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.to_dict() == {**head, "function": {"name": "sum", "arguments": '{"a": 1}'}}


async def test_they_are_listed_by_model_and_metadata_in_either_order(pair: Pair) -> None:
    served, _ = pair
    ids = [(await stored(pair, str(n), metadata={"n": str(n % 2)})).id for n in range(5)]
    listed = served.openai.chat.completions.list
    assert [one.id async for one in listed()] == ids
    assert [one.id async for one in listed(order="desc", limit=2)] == ids[::-1]
    assert [one.id async for one in listed(metadata={"n": "1"})] == ids[1::2]
    assert [one.id async for one in listed(model="other")] == []
    page = await listed(after=ids[1], limit=2)
    assert ([one.id for one in page.data], page.has_more) == (ids[2:4], True)


@pytest.mark.parametrize("name", ["x' OR '1'='1", "team'; DROP TABLE completions; --"])
async def test_a_label_that_looks_like_a_query_is_a_label(pair: Pair, name: str) -> None:
    served, _ = pair
    labels = ({name: "red"}, {name: "blue"}, {"x": "red", "team": "red"})
    ids = [(await stored(pair, "Hi", metadata=given)).id for given in labels]
    for query, found in (({f"metadata[{name}]": "red"}, ids[:1]), ({}, ids)):
        response = await served.client.get("/v1/chat/completions", params=query)
        assert response.status_code == 200
        assert [one["id"] for one in response.json()["data"]] == found


async def test_metadata_is_changed_and_all_of_it_deleted(pair: Pair) -> None:
    served, _ = pair
    answer = await stored(pair, "Hi", metadata={"a": "1"})
    changed = await served.openai.chat.completions.update(answer.id, metadata={"b": "2"})
    assert changed.metadata == {"b": "2"}
    gone = await served.openai.chat.completions.delete(answer.id)
    assert gone.to_dict() == {
        "id": answer.id,
        "object": "chat.completion.deleted",
        "deleted": True,
    }
    with pytest.raises(openai.NotFoundError):
        await served.openai.chat.completions.retrieve(answer.id)


async def test_its_messages_are_listed(pair: Pair) -> None:
    served, _ = pair
    parts = [{"type": "text", "text": "Hello"}]
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    answer = await stored(pair, "Hi", messages=said)
    listed = served.openai.chat.completions.messages.list
    found = [one async for one in listed(answer.id, limit=1)]
    assert [one.id for one in found] == [f"{answer.id}-0", f"{answer.id}-1"]
    assert [one.content for one in found] == ["Be brief.", None]
    assert found[1].to_dict()["content_parts"] == parts
    newest = [one.id async for one in listed(answer.id, order="desc")]
    assert newest == [f"{answer.id}-1", f"{answer.id}-0"]


async def test_what_was_not_answered_whole_is_not_kept(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(fail(400, "No."), cut("Half"), say("Not asked to be kept"))
    asked: list[dict[str, Any]] = [STORED, {**STORED, "stream": True}, CHAT]
    for body in asked:
        await served.client.post("/v1/chat/completions", json=body)
    assert [one async for one in served.openai.chat.completions.list()] == []


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"store": "yes"}, "store"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a" * 65: "x"}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    pair: Pair, given: dict[str, Any], param: str
) -> None:
    served, upstream = pair
    response = await served.client.post("/v1/chat/completions", json={**STORED, **given})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("query", "param"),
    [("order=up", "order"), ("limit=0", "limit"), ("limit=x", "limit"), ("limit=101", "limit")],
)
async def test_a_wrong_list_is_refused(pair: Pair, query: str, param: str) -> None:
    served, _ = pair
    response = await served.client.get(f"/v1/chat/completions?{query}")
    error = error_of(response, 400, "invalid_value")
    assert error["param"] == param


async def test_they_are_their_owners_alone(tmp_path: Path) -> None:
    async with passing(tmp_path, two_keys()) as (served, upstream):
        upstream.script(say("Hi"))

        path = "/v1/chat/completions"
        kept = await served.client.post(path, json=STORED, headers=ANN)
        one = f"{path}/{kept.json()['id']}"
        for method, url in (
            ("GET", one),
            ("POST", one),
            ("DELETE", one),
            ("GET", f"{one}/messages"),
            ("GET", f"{path}?after={kept.json()['id']}"),
        ):
            body: dict[str, Any] | None = {"metadata": {}} if method == "POST" else None
            response = await served.client.request(method, url, json=body, headers=BOB)
            error_of(response, 404)
        assert (await served.client.get(path, headers=BOB)).json()["data"] == []
        assert (await served.client.get(one, headers=ANN)).json() == kept.json()

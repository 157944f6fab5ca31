"""Requests with an `Idempotency-Key` that join a conversation are one turn, however often sent."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from server.core.access.auth import EVERYONE
from tests.server.transports.openai.chat.joined_talk import IN, asked, kept, sent, user
from tests.server.transports.openai.openai_client import Pair, error_of, events_of
from tests.support.upstream_script import MODEL, cut, event, fail, say

KEYED = {**IN, "idempotency-key": "k"}


async def post(pair: Pair, **given: Any) -> httpx2.Response:
    body = {"model": MODEL, "messages": [user("Hello")], **given}
    return await pair[0].client.post("/v1/chat/completions", json=body, headers=KEYED)


async def test_the_same_again_is_the_first_answer(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say("Hi"))
    first = await post(pair)
    again = await post(pair)
    assert again.status_code == 200
    for name in ("choices", "usage", "model", "object"):
        assert again.json()[name] == first.json()[name]
    assert again.headers["x-turn-id"] == first.headers["x-turn-id"]
    assert len(upstream.requests) == 1
    assert await kept(served) == [("user", "Hello"), ("assistant", "Hi")]


@pytest.mark.parametrize("usage", [True, False])
async def test_it_is_streamed_where_that_is_asked_for(pair: Pair, usage: bool) -> None:
    _, upstream = pair
    upstream.script(say("Hi"))
    await post(pair)
    given = {"stream_options": {"include_usage": True}} if usage else {}
    again = await post(pair, stream=True, **given)
    *chunks, done = events_of(again.content)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "Hi"}
    assert chunks[1]["choices"][0]["finish_reason"] == "stop"
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if chunk.get("usage")] == (
        [18] if usage else []
    )
    assert len(upstream.requests) == 1


async def test_two_at_once_are_one(pair: Pair) -> None:
    served, upstream = pair
    go_on = asyncio.Event()
    upstream.script(say("H", go_on, "i"))
    both = asyncio.gather(post(pair), post(pair))
    await upstream.request()
    go_on.set()
    answers = [response.json()["choices"][0]["message"] for response in await both]
    assert answers == [{"role": "assistant", "content": "Hi", "refusal": None}] * 2
    assert len(upstream.requests) == 1
    assert len(await kept(served)) == 2


async def test_calls_of_tools_are_told_again(pair: Pair) -> None:
    _, upstream = pair
    call = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": "{}"}}
    delta = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}
    upstream.script(say(event({"choices": [delta]}), finish="tool_calls"))
    first, again = await post(pair), await post(pair)
    assert again.json()["choices"] == first.json()["choices"]
    assert again.json()["choices"][0]["message"]["tool_calls"] == [call]


async def test_one_that_failed_before_its_first_word_is_asked_again(pair: Pair) -> None:
    served, upstream = pair
    for _ in range(2):
        upstream.script(fail(401, "Incorrect API key", code="invalid_api_key"))
        response = await post(pair)
        assert response.status_code == 401
        assert response.json()["error"]["message"] == "Incorrect API key"
    assert len(upstream.requests) == 2
    upstream.script(say("Hi"))
    for _ in range(2):
        assert (await post(pair)).json()["choices"][0]["message"]["content"] == "Hi"
    assert len(upstream.requests) == 3
    assert await kept(served) == [("user", "Hello"), ("assistant", "Hi")]


@pytest.mark.parametrize(
    "other", [{"messages": [user("Bye")]}, {"temperature": 0.5}, {"tool_choice": "none"}]
)
async def test_the_key_is_for_one_request(pair: Pair, other: dict[str, Any]) -> None:
    _, upstream = pair
    upstream.script(say("Hi"))
    await post(pair)
    assert error_of(await post(pair, **other), 422)["param"] == "idempotency-key"
    assert len(upstream.requests) == 1


async def test_a_question_that_stands_there_already_is_answered_once(pair: Pair) -> None:
    served, upstream = pair
    await asked(pair, "One.", user("1"))
    said = [user("1"), {"role": "assistant", "content": "One."}, user("2")]
    await asked(pair, "Two.", *said)
    upstream.script(say("Two again."))
    for _ in range(2):
        response = await post(pair, messages=said)
        assert response.json()["choices"][0]["message"]["content"] == "Two again."
    assert len(upstream.requests) == 3
    assert sent(upstream) == said
    assert len(await kept(served)) == 4


async def test_who_asks_again_behind_an_answer_that_broke_off_gets_another_answer(
    pair: Pair,
) -> None:
    served, upstream = pair
    await asked(pair, "One.", user("1"))
    upstream.script(cut("Half"))
    body = {"model": MODEL, "messages": [user("2")]}
    broke = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    assert broke.status_code == 502
    await asked(pair, "Whole.", user("2"))
    assert await kept(served) == [
        *(("user", "1"), ("assistant", "One."), ("user", "2"), ("assistant", "Whole."))
    ]
    page = await served.conversations.messages(EVERYONE, "demo")
    assert len(page.items[-1].siblings) == 2
    await asked(pair, "Three.", user("3"))
    assert [one["content"] for one in sent(upstream)] == ["1", "One.", "2", "Whole.", "3"]


async def test_a_client_says_where_it_stands(pair: Pair) -> None:
    served, upstream = pair
    await asked(pair, "One.", user("1"))
    await asked(pair, "Two.", user("2"))
    page = await served.conversations.messages(EVERYONE, "demo")
    body = {"model": MODEL, "messages": [user("other")]}
    for parent, before in (("root", []), (page.items[1].id, ["1", "One."])):
        headers = {**IN, "x-parent-id": parent}
        upstream.script(say("Yes."))
        told = await served.client.post("/v1/chat/completions", json=body, headers=headers)
        assert told.status_code == 200, told.text
        assert [one["content"] for one in sent(upstream)] == [*before, "other"]
        assert [content for _, content in await kept(served)] == [*before, "other", "Yes."]
    headers = {**IN, "x-parent-id": "msg_nobody"}
    lost = await served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert (lost.status_code, "msg_nobody" in lost.json()["error"]["message"]) == (404, True)

"""Tokens of `/v1`: counted as the upstream tells them, refused in OpenAI's words when spent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from server.core.access.auth import EVERYONE
from server.core.clock import microseconds
from server.tokens.request import prompt_tokens, text_tokens
from tests.server.transports.openai.openai_client import (
    CHAT,
    HANDED_ON,
    MESSAGES,
    STREAM,
    Pair,
    Served,
    connected,
    error_of,
    events_of,
    passing,
)
from tests.support.upstream_script import MODEL, SSE, Exchange, document, event, fail, say

#: what `say` tells of itself
USED = 18


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with passing(tmp_path, token_budget="100/day") as both:
        yield both


async def spent(served: Served) -> int:
    return await served.store.spent(EVERYONE, 0)


async def post(served: Served, path: str, body: Any, **headers: str) -> Any:
    return await served.client.post(f"/v1/{path}", json=body, headers=headers)


class TestCounting:
    async def test_an_answer_at_once(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hello"))
        answer = await post(served, "chat/completions", CHAT)
        assert answer.json()["usage"]["total_tokens"] == await spent(served) == USED

    async def test_a_stream_whose_client_did_not_ask_for_usage(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hel", "lo"))
        answer = await post(served, "chat/completions", STREAM)
        *chunks, done = events_of(answer.content)
        assert done == "[DONE]"
        assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks)
        assert upstream.requests[0].body["stream_options"] == {"include_usage": True}
        assert await spent(served) == USED

    async def test_a_stream_whose_client_asked_for_it(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hel", "lo"))
        body = {**STREAM, "stream_options": {"include_usage": True}}
        answer = await post(served, "chat/completions", body)
        assert events_of(answer.content)[-2]["usage"]["total_tokens"] == USED
        assert await spent(served) == USED

    async def test_a_stream_that_never_tells_is_counted_by_us(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hel", "lo", usage=None))
        answer = await post(served, "chat/completions", STREAM)
        *chunks, done = events_of(answer.content)
        assert done == "[DONE]"
        assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)
        assert await spent(served) == prompt_tokens(MODEL, MESSAGES) + text_tokens(MODEL, "Hello")

    async def test_no_usage_is_seen_that_only_we_asked_for(self, pair: Pair) -> None:
        served, upstream = pair

        async def with_null(exchange: Exchange) -> None:
            pieces = [exchange.piece("Hi"), exchange.piece(None, "stop")]
            steps = [event(one | {"usage": None}) for one in pieces]
            await say(*steps, finish=None)(exchange)

        upstream.script(with_null)
        *chunks, done = events_of((await post(served, "chat/completions", STREAM)).content)
        assert done == "[DONE]"
        assert not any("usage" in chunk for chunk in chunks)
        assert await spent(served) == USED

    async def test_a_stream_that_is_left_counts_what_came_of_it(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hel", "lo", asyncio.Event()))
        async with connected(served.port) as client:
            await client.post("/v1/chat/completions", STREAM)
            await client.head()
            while b"lo" not in await client.chunk():
                pass
        await upstream.requests[0].gone.wait()
        while not await spent(served):
            await asyncio.sleep(0.01)
        assert await spent(served) == 3

    @pytest.mark.parametrize("stream", [False, True])
    async def test_completions_of_text(self, pair: Pair, stream: bool) -> None:
        served, upstream = pair
        upstream.script(say("Hello"))
        body = {"model": "davinci-002", "prompt": "Hi", "stream": stream}
        await post(served, "completions", body)
        assert await spent(served) == USED

    async def test_embeddings(self, pair: Pair) -> None:
        served, upstream = pair
        told = {"object": "list", "data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}}
        upstream.script(document(told))
        await post(served, "embeddings", {"model": MODEL, "input": "Hi"})
        assert await spent(served) == 5

    async def test_routes_that_only_the_upstream_has(self, pair: Pair) -> None:
        served, upstream = pair
        usage = {"usage": {"input_tokens": 4, "output_tokens": 3}}
        ended = event({"type": "response.completed", "response": usage})
        upstream.script(document(usage), document(ended, content_type=SSE))
        await post(served, "responses", HANDED_ON)
        assert await spent(served) == 7
        await post(served, "responses", {**HANDED_ON, "stream": True})
        assert await spent(served) == 14

    async def test_what_is_refused_or_says_no_usage_costs_nothing(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(400, "No"))
        await post(served, "chat/completions", CHAT)
        upstream.script(document([{"usage": {"total_tokens": 9}}]), document(b'{"usage": '))
        for _ in range(2):
            await post(served, "files", {})
        assert await spent(served) == 0

    async def test_a_stored_completion_counts_once(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hello"))
        answer = await post(served, "chat/completions", {**CHAT, "store": True})
        path = f"chat/completions/{answer.json()['id']}"
        await post(served, path, {"metadata": {"a": "1"}})
        assert (await served.client.get(f"/v1/{path}")).json()["usage"]
        assert await spent(served) == USED

    async def test_a_turn_of_a_joined_conversation_counts_once(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hello"))
        joined = {"x-conversation-id": "c1"}
        answer = await post(served, "chat/completions", CHAT, **joined)
        assert answer.status_code == 200
        assert await spent(served) == USED

    async def test_without_a_budget_nothing_is_touched(self, tmp_path: Path) -> None:
        async with passing(tmp_path) as (served, upstream):
            upstream.script(say("Hello"))
            await post(served, "chat/completions", STREAM)
            assert "stream_options" not in upstream.requests[0].body
            assert await spent(served) == 0


class TestRefusing:
    @pytest.fixture(autouse=True)
    async def _spent(self, pair: Pair) -> None:
        served, _ = pair
        await served.store.spend(EVERYONE, 100, microseconds())

    async def test_what_would_reach_an_upstream_is_refused(self, pair: Pair) -> None:
        served, upstream = pair
        prompt = {"model": "davinci-002", "prompt": "Hi"}
        for path, body in (
            ("chat/completions", CHAT),
            ("chat/completions", STREAM),
            ("chat/completions", {**CHAT, "store": True}),
            ("completions", prompt),
            ("embeddings", {"model": MODEL, "input": "Hi"}),
            ("edits", {"instruction": "Mend it", "input": "x"}),
            ("images/generations", {"prompt": "A cat"}),
        ):
            response = await post(served, path, body)
            error = error_of(response, 429, "insufficient_quota")
            assert error["type"] == "insufficient_quota"
            assert response.headers["x-should-retry"] == "false"
            assert int(response.headers["retry-after"]) > 0
        assert upstream.requests == []

    async def test_a_joined_conversation_keeps_nothing(self, pair: Pair) -> None:
        served, upstream = pair
        response = await post(served, "chat/completions", CHAT, **{"x-conversation-id": "c1"})
        error_of(response, 429, "insufficient_quota")
        assert (await served.client.get("/conversations/c1")).status_code == 404
        assert upstream.requests == []

    async def test_what_costs_nothing_is_still_to_be_had(self, pair: Pair) -> None:
        served, _ = pair
        assert (await served.client.get("/v1/models")).status_code == 200
        assert (await served.client.get("/v1/chat/completions")).status_code == 200
        assert (await served.client.get("/conversations")).status_code == 200

    async def test_openais_client_does_not_try_again(self, pair: Pair) -> None:
        served, _ = pair
        trying = served.openai.with_options(max_retries=5)
        with pytest.raises(openai.RateLimitError) as caught:
            await trying.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert caught.value.code == "insufficient_quota"

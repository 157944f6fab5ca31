"""What a client that joins a conversation is answered: the upstream's headers, fields, errors."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from server.core.access.auth import EVERYONE
from storage.port import NotFoundError
from tests.server.transports.openai.chat.joined_talk import IN, asked, kept, user
from tests.server.transports.openai.openai_client import Pair, error_of, events_of
from tests.support.upstream_script import MODEL, SSE, Behaviour, Exchange, complain, event, say

LIMITED = {
    "message": "Rate limit reached",
    "type": "requests",
    "param": None,
    "code": "rate_limit_exceeded",
}
TOO_LONG = {
    "message": "This model's maximum context length is 8 tokens",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}
BROKEN = {"message": "Oops", "type": "server_error", "param": None, "code": "oops"}


async def answered(pair: Pair, *, stream: bool = False, **given: Any) -> httpx2.Response:
    body = {"model": MODEL, "messages": [user("Hello")], "stream": stream, **given}
    return await pair[0].client.post("/v1/chat/completions", json=body, headers=IN)


def with_headers(headers: dict[str, str], behave: Behaviour) -> Behaviour:
    """Return a behaviour whose stream begins with these headers too."""

    class Headed(Exchange):
        async def head(self, status: int, own: Any) -> None:
            await super().head(status, {**own, **headers})

    async def said(exchange: Exchange) -> None:
        await behave(Headed(exchange.request, exchange._writer))

    return said


def complaining(error: dict[str, Any], *, first: bool) -> Behaviour:
    """Return a stream whose event is an error: the first one, or that behind some text."""
    if not first:
        return complain("Half", error=error)

    async def behave(exchange: Exchange) -> None:
        await exchange.open_stream(role=False)
        await exchange.chunk(event({"error": error}))
        await exchange.chunk(b"")

    return behave


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("error", "status"), [(LIMITED, 429), (BROKEN, 502)])
async def test_an_error_in_place_of_an_answer_is_a_refusal(
    pair: Pair, stream: bool, error: dict[str, Any], status: int
) -> None:
    served, upstream = pair
    upstream.script(complaining(error, first=True))
    response = await answered(pair, stream=stream)
    assert error_of(response, status, error["code"]) == error
    with pytest.raises(NotFoundError):
        await served.conversations.get(EVERYONE, "demo")


@pytest.mark.parametrize("stream", [True, False])
async def test_of_a_question_that_is_too_long_nothing_is_kept(pair: Pair, stream: bool) -> None:
    served, upstream = pair
    upstream.script(complaining(TOO_LONG, first=True))
    response = await answered(pair, stream=stream)
    assert error_of(response, 400, TOO_LONG["code"]) == TOO_LONG
    with pytest.raises(NotFoundError):
        await served.conversations.get(EVERYONE, "demo")


async def test_an_error_in_the_middle_ends_the_stream_as_it_came(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(complaining(LIMITED, first=False))
    response = await answered(pair, stream=True)
    assert response.status_code == 200
    assert events_of(response.content)[-1] == {"error": LIMITED}
    assert await kept(served) == [("user", "Hello"), ("assistant", "Half")]
    upstream.script(complaining(LIMITED, first=False))
    assert error_of(await answered(pair), 429, "rate_limit_exceeded") == LIMITED


@pytest.mark.parametrize("stream", [True, False])
async def test_the_upstreams_headers_are_passed_on(pair: Pair, stream: bool) -> None:
    told = {
        "x-ratelimit-remaining-requests": "99",
        "openai-version": "2020-10-01",
        "openai-organization": "org-secret",
        "openai-processing-ms": "77",
        "x-request-id": "req_up",
    }
    response = await asked(pair, with_headers(told, say("Hi")), user("Hello"), stream=stream)
    headers = response.headers
    assert headers["x-ratelimit-remaining-requests"] == "99"
    assert headers["openai-version"] == "2020-10-01"
    assert headers["openai-processing-ms"] == "77"
    assert headers["x-upstream-request-id"] == "req_up"
    assert headers["x-request-id"] != "req_up"
    assert "openai-organization" not in headers
    assert headers.get_list("content-type") == [SSE if stream else "application/json"]


async def test_fields_that_nobody_knows_are_there_too(pair: Pair) -> None:
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None, "x_choice": 1}
    chunk = event({"choices": [choice], "citations": ["a"], "x_unknown": {"a": [1, None]}})
    completion = (await asked(pair, say(chunk), user("Hello"))).json()
    assert completion["citations"] == ["a"]
    assert completion["x_unknown"] == {"a": [1, None]}
    assert completion["choices"][0]["x_choice"] == 1


async def test_what_is_wrong_is_named_as_the_client_knows_it(pair: Pair) -> None:
    body = {"model": MODEL, "messages": [user("word " * 200_000)]}
    served, _ = pair
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    assert error_of(response, 400, "context_length_exceeded")["param"] == "messages"
    bad = {"x-conversation-id": "../x"}
    response = await served.client.post("/v1/chat/completions", json=body, headers=bad)
    error = error_of(response, 400)
    assert error["param"] == "X-Conversation-Id"
    assert error["message"].startswith("X-Conversation-Id must be")
    body = {"model": MODEL, "messages": [{"role": "system", "content": "\x00"}, user("1")]}
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    error = error_of(response, 400)
    assert (error["param"], error["message"]) == (
        "messages",
        "messages must not contain NUL characters.",
    )

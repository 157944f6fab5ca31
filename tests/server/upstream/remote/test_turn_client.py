"""Asking an OpenAI-compatible server: what is sent, tried again, waited for and hung up on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from server.upstream.port import (
    Finish,
    Prompt,
    UpstreamFailedError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from server.upstream.remote.client import UpstreamClient, limit_name
from server.upstream.retry import Retries
from storage.model import PromptMessage, Role, Usage
from tests.server.upstream.remote.turn_helpers import (
    BASE,
    PROMPT,
    answer_to,
    asking,
    scripted,
    told,
    until_broken,
)
from tests.support.upstream_script import (
    KEY,
    Behaviour,
    cut,
    document,
    fail,
    garbled,
    reset,
    say,
    truncated,
    wire,
)


async def test_an_answer_comes_piece_by_piece_and_then_its_finish() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    async with scripted(say("Hel", first, "lo", second, finish="length")) as (_, client):
        answer = client.complete(PROMPT)
        assert await anext(answer) == "Hel"
        first.set()
        assert await anext(answer) == "lo"
        second.set()
        assert await anext(answer) == Finish("length", Usage(11, 7))
        with pytest.raises(StopAsyncIteration):
            await anext(answer)


async def test_everything_of_the_prompt_is_sent() -> None:
    prompt = Prompt(
        model="gpt-4o-mini",
        messages=(
            PromptMessage(Role.SYSTEM, "Be kind."),
            PromptMessage(Role.USER, [{"type": "text", "text": "hi"}], name="ada"),
        ),
        max_tokens=9,
        temperature=0.5,
        top_p=0.25,
        seed=7,
        stop=("END",),
    )
    async with scripted() as (server, client):
        await told(client, prompt)
        request = await server.request()
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ada"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 7,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_what_was_said_with_tools_is_sent_in_openais_shape() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": "{}"}}
    result = {"type": "text", "text": "2", "tool_call_id": "c1"}
    said = (
        PromptMessage(Role.USER, "1 + 1?"),
        PromptMessage(Role.ASSISTANT, [call]),
        PromptMessage(Role.TOOL, [result]),
    )
    async with scripted() as (server, client):
        await told(client, Prompt(model="gpt-4o-mini", messages=said))
        assert (await server.request()).body["messages"] == [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2", "tool_call_id": "c1"},
        ]


async def test_what_is_none_is_not_sent() -> None:
    async with scripted() as (server, client):
        await told(client)
        assert set((await server.request()).body) == {
            "model",
            "messages",
            "stream",
            "stream_options",
        }


async def test_a_prompt_that_json_can_hardly_carry_is_sent_all_the_same() -> None:
    prompt = replace(PROMPT, messages=(PromptMessage(Role.USER, "a\ud83d \ud83d\ude00"),))
    async with scripted() as (server, client):
        await told(client, prompt)
        assert (await server.request()).body["messages"][0]["content"] == "a\ufffd 😀"


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1/", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1/", "max_completion_tokens"),
        ("https://api.openai.com.example.net/v1", "max_tokens"),
        ("https://notapi.openai.com.net/v1", "max_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_server_knows(base_url: str, name: str) -> None:
    assert limit_name(base_url) == name


async def test_a_server_that_wants_no_key_is_sent_none_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with scripted(api_key=None) as (server, client):
        await told(client)
        assert "authorization" not in (await server.request()).headers


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-a b", "sk-é", "sk-\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="characters") as refusal:
        UpstreamClient(api_key=key, base_url=None)
    assert key not in str(refusal.value)


def test_neither_key_nor_address_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        UpstreamClient(api_key=None, base_url=None)


class TestTextModels:
    async def test_the_conversation_is_sent_as_one_text(self) -> None:
        prompt = replace(BASE, max_tokens=5, stop=("END",))
        async with scripted(say(" Hello", " there")) as (server, client):
            text, finish = await told(client, prompt)
            request = await server.request()
        assert text == "Hello there"
        assert finish == Finish("stop", Usage(11, 7))
        assert request.path == "/v1/completions"
        assert request.body["prompt"] == "User: hi\nAssistant:"
        assert request.body["stop"] == ["END", "\nUser:"]
        assert request.body["max_tokens"] == 5
        assert "messages" not in request.body

    async def test_a_text_that_is_there_is_sent_as_it_is_whatever_the_model(self) -> None:
        prompt = replace(BASE, model="gpt-4o-mini", text="Q: hi\nA:")
        async with scripted(say(" Hello")) as (server, client):
            text, _ = await told(client, prompt)
            request = await server.request()
        assert text == "Hello"
        assert request.path == "/v1/completions"
        assert request.body["prompt"] == "Q: hi\nA:"
        assert "stop" not in request.body

    async def test_only_the_space_before_the_first_word_is_dropped(self) -> None:
        assert await answer_to(say(" ", " a", " b", " "), prompt=BASE) == "a b "

    async def test_a_whole_text_completion_is_one_piece(self) -> None:
        body = {"choices": [{"text": " Hello", "finish_reason": "stop"}]}
        assert await answer_to(document(body), prompt=BASE) == "Hello"


class TestUsageRefused:
    @pytest.mark.parametrize(
        "refusal",
        [
            fail(400, "Unrecognized request argument supplied: stream_options"),
            fail(400, "unknown parameter", param="stream_options"),
            fail(422, body={"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]}),
        ],
    )
    async def test_asked_again_without_and_remembered(self, refusal: Behaviour) -> None:
        async with scripted(refusal, say("a"), say("b"), retries=0) as (server, client):
            assert await told(client) == ("a", Finish("stop", None))
            assert await told(client) == ("b", Finish("stop", None))
            asked = ["stream_options" in request.body for request in server.requests]
        assert asked == [True, False, False]

    async def test_another_refusal_is_not_taken_for_it(self) -> None:
        async with scripted(fail(400, "bad model")) as (server, client):
            with pytest.raises(UpstreamRejectedError, match="bad model"):
                await told(client)
            await told(client)
            assert "stream_options" in server.requests[1].body


class TestHintsRefused:
    HINTED = replace(
        PROMPT,
        options={"tools": [{"type": "function"}], "parallel_tool_calls": True},
        extra={"prompt_cache_key": "k", "verbosity": "low", "top_k": 3},
    )

    @pytest.mark.parametrize(
        "refusal",
        [
            fail(400, "property 'prompt_cache_key' is unsupported"),
            fail(400, "unknown parameter", param="parallel_tool_calls"),
            fail(422, body={"detail": [{"loc": ["body", "verbosity"], "msg": "extra"}]}),
        ],
    )
    async def test_asked_again_without_all_of_them(self, refusal: Behaviour) -> None:
        async with scripted(refusal, say("a"), retries=0) as (server, client):
            assert (await told(client, self.HINTED))[0] == "a"
        first, second = (request.body for request in server.requests)
        gone = ("parallel_tool_calls", "prompt_cache_key", "verbosity")
        assert second == {name: value for name, value in first.items() if name not in gone}
        assert second["top_k"] == 3

    async def test_once(self) -> None:
        refusal = fail(400, "property 'verbosity' is unsupported")
        async with scripted(refusal, refusal, retries=0) as (server, client):
            with pytest.raises(UpstreamRejectedError, match="verbosity"):
                await told(client, self.HINTED)
            assert len(server.requests) == 2

    async def test_one_call_at_a_time_is_no_hint(self) -> None:
        alone = replace(self.HINTED, options={"parallel_tool_calls": False}, extra={})
        refusal = fail(400, "property 'parallel_tool_calls' is unsupported")
        async with scripted(refusal, retries=0) as (_, client):
            with pytest.raises(UpstreamRejectedError, match="unsupported"):
                await told(client, alone)


class TestTriesAgain:
    @pytest.mark.parametrize(
        "trouble",
        [
            fail(500),
            fail(502, body=b"<html>bad gateway</html>"),
            fail(503),
            fail(408),
            fail(409),
            fail(429),
            wire(),
            reset(),
            truncated(),
            cut(),
            wire(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev"),
        ],
    )
    async def test_before_the_first_piece(self, trouble: Behaviour) -> None:
        async with scripted(trouble, trouble, say("good")) as (server, client):
            assert (await told(client))[0] == "good"
            assert len(server.requests) == 3
            assert server.requests[0].raw == server.requests[2].raw

    async def test_no_more_often_than_allowed(self) -> None:
        async with scripted(fail(500), fail(500), retries=1) as (server, client):
            with pytest.raises(UpstreamFailedError):
                await told(client)
            assert len(server.requests) == 2

    async def test_but_not_after_the_first_piece(self) -> None:
        gate = asyncio.Event()
        async with scripted(reset("Hel", gate)) as (server, client):
            answer = client.complete(PROMPT)
            assert await anext(answer) == "Hel"
            gate.set()
            with pytest.raises(UpstreamFailedError, match="cut off"):
                await anext(answer)
            assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "trouble",
        [
            fail(400),
            fail(401),
            fail(404),
            fail(307, headers={"location": "/v1/elsewhere"}),
            fail(429, code="insufficient_quota"),
            fail(500, headers={"x-should-retry": "false"}),
            garbled(),
            document({"nothing": "here"}),
            document(b"<html></html>", content_type="text/html"),
        ],
    )
    async def test_nor_where_it_would_not_help(self, trouble: Behaviour) -> None:
        async with scripted(trouble) as (server, client):
            _, error = await until_broken(client)
            assert isinstance(
                error, UpstreamFailedError | UpstreamRejectedError | UpstreamQuotaError
            )
            assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [429, 503])
    async def test_after_what_the_upstream_asks_for(self, status: int) -> None:
        asks = fail(status, headers={"retry-after-ms": "20"})
        async with scripted(asks, say("good"), backoff=60.0) as (_, client):
            assert (await told(client))[0] == "good"

    async def test_not_if_the_wait_would_outlast_the_deadline(self) -> None:
        asks = fail(429, headers={"retry-after": "30"})
        async with scripted(asks, total=10.0) as (server, client):
            with pytest.raises(UpstreamRateLimitedError) as limited:
                await told(client)
            assert limited.value.retry_after == 30
            assert len(server.requests) == 1

    async def test_not_if_the_wait_is_longer_than_anyone_waits(self) -> None:
        async with scripted(fail(503, headers={"retry-after": "61"})) as (server, client):
            with pytest.raises(UpstreamFailedError):
                await told(client)
            assert len(server.requests) == 1


class TestRetries:
    retries = Retries(limit=2, backoff=0.5, longest_wait=60.0)

    def test_the_wait_doubles_and_is_never_quite_the_same(self) -> None:
        first = {self.retries.wait(0, None) for _ in range(20)}
        second = {self.retries.wait(1, None) for _ in range(20)}
        assert len(first) > 1
        assert all(wait is not None and 0.375 <= wait <= 0.5 for wait in first)
        assert all(wait is not None and 0.75 <= wait <= 1.0 for wait in second)

    def test_the_wait_is_bounded(self) -> None:
        wait = Retries(limit=10**6, backoff=0.5, longest_wait=60.0).wait(10**5, None)
        assert wait is not None
        assert wait <= 8.0

    def test_what_the_upstream_asks_for_counts_unless_it_is_nothing_or_too_much(self) -> None:
        assert self.retries.wait(0, 60.0) == 60.0
        assert self.retries.wait(0, 60.1) is None
        assert self.retries.wait(0, 0.0) is not None

    def test_at_last_there_is_no_other_try(self) -> None:
        assert self.retries.wait(2, None) is None
        assert self.retries.wait(2, 1.0) is None


async def test_whole_answers_share_one_connection() -> None:
    async with scripted(say("a"), say("b"), say("c", done=False)) as (server, client):
        for _ in range(4):
            await told(client)
        assert {request.connection for request in server.requests} == {1}


async def test_many_answers_at_once() -> None:
    async with scripted() as (_, client):
        prompts = [
            replace(PROMPT, messages=(PromptMessage(Role.USER, f"number {n}"),)) for n in range(50)
        ]
        answers = await asyncio.gather(*(told(client, prompt) for prompt in prompts))
        assert [text for text, _ in answers] == [f"You said: number {n}" for n in range(50)]


async def test_what_is_for_this_machine_does_not_go_to_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with scripted(say("hi")) as (_, client):
        assert (await told(client))[0] == "hi"


@pytest.mark.parametrize("host", ["elsewhere.invalid", "127.elsewhere.invalid"])
async def test_what_is_for_others_goes_to_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    async with scripted(say("by proxy")) as (upstream, _):
        monkeypatch.setenv("http_proxy", upstream.base_url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        client = asking(f"http://{host}/v1", retries=0)
        try:
            assert (await told(client))[0] == "by proxy"
        finally:
            await client.close()

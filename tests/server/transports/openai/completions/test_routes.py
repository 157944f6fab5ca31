"""Text completions: the upstream's own, and those made from chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Completion

from server.tokens.encoding import encoding
from tests.server.transports.openai.completions.chat_only import CHAT_ONLY, chat, checked
from tests.server.transports.openai.openai_client import (
    Pair,
    error_of,
    events_of,
    member,
    passage,
    serving,
)
from tests.support.upstream_script import (
    MODEL,
    SSE,
    Behaviour,
    Exchange,
    document,
    event,
    fail,
    say,
    stall,
    truncated,
)
from tests.support.upstream_server import ScriptedUpstream

USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
}


class TestTheUpstreams:
    async def test_an_answer_and_a_stream(self, pair: Pair) -> None:
        served, upstream = pair
        create = served.openai.completions.create
        answer = await create(model="davinci-002", prompt="Once", echo=True)
        Completion.model_validate(answer.model_dump(mode="json"), strict=True)
        assert answer.choices[0].text == "OnceYou said: Once"
        assert upstream.requests[0].body == {"model": "davinci-002", "prompt": "Once", "echo": True}
        upstream.script(say("Once upon"), say("a", "b"))
        answer = await create(model="davinci-002", prompt="Once", echo=True)
        assert answer.choices[0].text == "Once upon"
        chunks = [
            one async for one in await create(model="davinci-002", prompt="Once", stream=True)
        ]
        assert "".join(chunk.choices[0].text for chunk in chunks) == "ab"

    async def test_a_model_that_is_not_there_is_not_looked_for_in_chat(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(404, "no such model", code="model_not_found"))
        with pytest.raises(openai.NotFoundError):
            await served.openai.completions.create(model="x", prompt="Once")
        assert len(upstream.requests) == 1

    async def test_a_refusal_is_passed_on(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(400, "too long", code="context_length_exceeded"))
        body = {"model": "x", "prompt": "Once", "stream": True}
        response = await served.client.post("/v1/completions", json=body)
        error_of(response, 400, "context_length_exceeded")


class TestFromChat:
    async def post(self, pair: Pair, *behaviours: Behaviour, **asked: Any) -> dict[str, Any]:
        served, upstream = pair
        upstream.script(CHAT_ONLY, *behaviours)
        response = await served.client.post("/v1/completions", json={"model": MODEL, **asked})
        assert response.status_code == 200, response.text
        return checked(response.content)

    async def test_a_prompt_is_a_message(self, pair: Pair) -> None:
        made = await self.post(
            pair, chat("hi"), prompt="Once", max_tokens=7, temperature=0, stop=["x"], best_of=3
        )
        assert made["choices"][0]["text"] == "hi"
        assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        asked = pair[1].requests[1]
        assert asked.path == "/v1/chat/completions"
        assert asked.body == {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Once"}],
            "max_tokens": 7,
            "temperature": 0,
            "stop": ["x"],
        }

    async def test_what_a_chat_understands_too_is_passed_on(self, pair: Pair) -> None:
        more = {"top_k": 5, "repeat_penalty": 1.2, "service_tier": "flex", "n": 1, "user": "u"}
        ours = {"store": True, "metadata": {"a": "b"}, "echo": False, "best_of": 2, "seed": None}
        await self.post(pair, chat("hi"), prompt="Once", **more, **ours)
        asked = pair[1].requests[1].body
        assert asked == {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Once"}],
            **more,
        }

    async def test_what_the_upstream_says_of_itself_and_of_its_tokens_is_kept(
        self, pair: Pair
    ) -> None:
        served, upstream = pair
        told = document(
            {
                "model": "m-2024",
                "system_fingerprint": "fp",
                "choices": [{"message": {"content": "hi"}}],
                "usage": USAGE,
            },
            headers={"x-ratelimit-limit-requests": "5", "x-request-id": "theirs"},
        )
        upstream.script(CHAT_ONLY, told, told)
        response = await served.client.post(
            "/v1/completions", json={"model": MODEL, "prompt": ["a", "b"]}
        )
        made = checked(response.content)
        assert (made["model"], made["system_fingerprint"]) == ("m-2024", "fp")
        assert made["usage"] == {
            "prompt_tokens": 6,
            "completion_tokens": 4,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2},
        }
        assert response.headers["x-ratelimit-limit-requests"] == "5"
        assert response.headers["x-upstream-request-id"] == "theirs"
        assert response.headers["content-length"] == str(len(response.content))

    async def test_it_is_remembered_that_the_model_takes_messages(self, pair: Pair) -> None:
        await self.post(pair, chat("hi"), prompt="Once")
        served, upstream = pair
        upstream.script(chat("again"))
        response = await served.client.post(
            "/v1/completions", json={"model": MODEL, "prompt": "Once"}
        )
        assert checked(response.content)["choices"][0]["text"] == "again"
        assert len(upstream.requests) == 3

    async def test_many_prompts_and_choices_are_numbered_through(self, pair: Pair) -> None:
        async def twice(exchange: Exchange) -> None:
            prompt = exchange.request.body["messages"][0]["content"]
            await chat(f"{prompt} 1", f"{prompt} 2")(exchange)

        made = await self.post(pair, *[twice] * 3, prompt=["a", "b", "c"], n=2, echo=True)
        assert [(one["index"], one["text"]) for one in made["choices"]] == [
            (0, "aa 1"),
            (1, "aa 2"),
            (2, "bb 1"),
            (3, "bb 2"),
            (4, "cc 1"),
            (5, "cc 2"),
        ]
        assert made["usage"]["total_tokens"] == 15

    async def test_tokens_are_read_in_the_models_encoding(self, pair: Pair) -> None:
        tokens = encoding("o200k_base").encode("Once upon")
        await self.post(pair, chat("hi"), prompt=tokens)
        served, upstream = pair
        upstream.script(chat("a"), chat("b"))
        body = {"model": MODEL, "prompt": [tokens, tokens]}
        assert (await served.client.post("/v1/completions", json=body)).status_code == 200
        prompts = [request.body["messages"][0]["content"] for request in upstream.requests[1:]]
        assert prompts == ["Once upon"] * 3

    async def test_those_of_an_alias_in_that_of_what_it_stands_for(self, tmp_path: Path) -> None:
        tokens = encoding("cl100k_base").encode("Once upon a time")
        async with ScriptedUpstream() as upstream:
            upstream.script(CHAT_ONLY, chat("hi"))
            one = member(passage(upstream), aliases={"fast": "gpt-4"})
            async with serving(tmp_path, [one]) as served:
                told = await served.openai.completions.create(
                    model="fast", prompt=tokens, echo=True
                )
        assert upstream.requests[-1].body["messages"][0]["content"] == "Once upon a time"
        assert told.choices[0].text == "Once upon a timehi"

    async def test_what_follows_is_told_before(self, pair: Pair) -> None:
        await self.post(pair, chat("hi"), prompt="Once", suffix="the end")
        first, second = pair[1].requests[1].body["messages"]
        assert first["role"] == "system"
        assert first["content"].endswith("the end")
        assert second["content"] == "Once"

    async def test_log_probabilities_have_the_shape_of_a_completions(self, pair: Pair) -> None:
        likely = [{"token": "hi", "logprob": -0.1, "bytes": None}]
        token = {**likely[0], "top_logprobs": likely}
        told = chat("hi", logprobs={"content": [token], "refusal": None})
        made = await self.post(pair, told, prompt="Once", logprobs=1, echo=True)
        assert made["choices"][0]["logprobs"] == {
            "tokens": ["hi"],
            "token_logprobs": [-0.1],
            "top_logprobs": [{"hi": -0.1}],
            "text_offset": [4],
        }
        asked = pair[1].requests[1].body
        assert (asked["logprobs"], asked["top_logprobs"]) == (True, 1)

    async def test_a_refusal_of_one_is_the_answer(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(CHAT_ONLY, chat("hi"), fail(429, "Slow down", headers={"retry-after": "3"}))
        response = await served.client.post(
            "/v1/completions", json={"model": MODEL, "prompt": ["a", "b"]}
        )
        error_of(response, 429)
        assert response.headers["retry-after"] == "3"

    async def test_tokens_that_are_none_are_refused(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(CHAT_ONLY)
        response = await served.client.post(
            "/v1/completions", json={"model": MODEL, "prompt": [10**9]}
        )
        assert error_of(response, 400)["param"] == "prompt"

    async def test_too_many_prompts_are_refused(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(CHAT_ONLY)
        body = {"model": MODEL, "prompt": ["x"] * 1000}
        response = await served.client.post("/v1/completions", json=body)
        error_of(response, 400, "array_above_max_length")

    async def test_the_limit_has_the_upstreams_own_name(self, tmp_path: Path) -> None:
        async with ScriptedUpstream() as upstream:
            upstream.script(CHAT_ONLY, chat("hi"))
            one = member(passage(upstream), limit_name="max_completion_tokens")
            async with serving(tmp_path, [one]) as served:
                await served.openai.completions.create(model=MODEL, prompt="x", max_tokens=5)
            assert upstream.requests[1].body["max_completion_tokens"] == 5


class TestStreamsFromChat:
    async def post(self, pair: Pair, *behaviours: Behaviour, **asked: Any) -> list[Any]:
        served, upstream = pair
        upstream.script(CHAT_ONLY, *behaviours)
        body = {"model": MODEL, "stream": True, **asked}
        response = await served.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        return events_of(response.content)

    async def test_text_comes_as_it_is_said(self, pair: Pair) -> None:
        *chunks, done = await self.post(
            pair,
            say("Hel", "lo"),
            say("you"),
            prompt=["a", "b"],
            echo=True,
            stream_options={"include_usage": True},
        )
        assert done == "[DONE]"
        *chunks, usage = chunks
        assert usage["choices"] == []
        assert usage["usage"]["total_tokens"] == 36
        said = ["", ""]
        for chunk in chunks:
            assert chunk["object"] == "text_completion"
            assert chunk["id"] == usage["id"]
            (choice,) = chunk["choices"]
            assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
            said[choice["index"]] += choice["text"]
        assert said == ["aHello", "byou"]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks].count("stop") == 2

    async def test_its_head_is_the_upstreams_and_its_usage_is_told_last(self, pair: Pair) -> None:
        head = {"id": "1", "model": "m-2024", "system_fingerprint": "fp", "usage": USAGE}
        choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
        # Some tell with every piece what was used so far.
        said = event({**head, "choices": [choice]}) + event({**head, "choices": []})
        told = document(said + b"data: [DONE]\n\n", content_type=SSE)
        asked = {"prompt": "a", "stream_options": {"include_usage": True}}
        *chunks, last, _ = await self.post(pair, told, **asked)
        assert chunks
        assert all(chunk["usage"] is None for chunk in chunks)
        assert last["usage"] == USAGE
        for chunk in (*chunks, last):
            assert (chunk["model"], chunk["system_fingerprint"]) == ("m-2024", "fp")

    async def test_its_headers_are_the_upstreams(self, pair: Pair) -> None:
        served, upstream = pair

        async def told(exchange: Exchange) -> None:
            await exchange.head(200, {"content-type": SSE, "openai-version": "2020-10-01"})
            await exchange.send(event(exchange.piece("hi", "stop")) + b"data: [DONE]\n\n")
            exchange.hang_up()

        upstream.script(CHAT_ONLY, told)
        body = {"model": MODEL, "prompt": "a", "stream": True}
        response = await served.client.post("/v1/completions", json=body)
        assert response.headers["openai-version"] == "2020-10-01"
        assert response.headers["content-type"] == SSE

    async def test_a_break_is_an_error_event(self, pair: Pair) -> None:
        *_, last = await self.post(pair, truncated("Hel"), prompt="a")
        assert set(last["error"]) == {"message", "type", "param", "code"}

    async def test_an_error_inside_is_kept_and_the_last(self, pair: Pair) -> None:
        broken = say("Hel", event({"error": {"message": "busy"}}))
        *_, last = await self.post(pair, broken, say("never"), prompt=["a", "b"])
        assert last["error"]["message"] == "busy"

    async def test_a_refusal_before_the_first_word_has_its_status(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(CHAT_ONLY, fail(400, "This model's maximum context length is 5"))
        body = {"model": MODEL, "prompt": "x", "stream": True}
        error_of(
            await served.client.post("/v1/completions", json=body), 400, "context_length_exceeded"
        )

    async def test_a_client_that_leaves_stops_it(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(CHAT_ONLY, stall("hi"))
        stream = await served.openai.completions.create(model=MODEL, prompt="x", stream=True)
        async for _ in stream:
            break
        await stream.close()
        await (await upstream.request(1)).gone.wait()

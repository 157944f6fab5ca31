"""Eliza's chat completions: shapes, options, what is refused and in which words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.tokens.encoding import encoding
from server.upstream.local.service import ElizaApi
from tests.server.upstream.local.openai_helpers import answered, refused, streamed, strict
from tests.server.upstream.remote.relay_helpers import CHAT as PATH

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10")
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL.decode()}"}}
CONTENTS = [
    pytest.param([{"role": "user", "content": ""}], id="nothing said"),
    pytest.param([{"role": "system", "content": "Be kind."}], id="no user"),
    pytest.param([{"role": "developer", "content": "Be kind."}], id="a developer alone"),
    pytest.param(
        [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]}],
        id="a picture",
    ),
    pytest.param([{"role": "user", "content": "Hi", "name": "Ann"}], id="a name"),
    pytest.param(
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
        id="a tool",
    ),
    pytest.param(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "done"},
        ],
        id="a function of old",
    ),
    pytest.param([{"role": "user", "content": "half a pair \ud83d"}], id="half a pair"),
]


def ask(text: str = "I am sad about my mother.", /, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


class TestWhole:
    async def test_every_field_is_there(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask())
        answer = strict(ChatCompletion, told)
        assert answer.id.startswith("chatcmpl-")
        assert answer.model == "gpt-4o"
        assert answer.service_tier == "default"
        assert answer.system_fingerprint
        choice = told["choices"][0]
        assert choice.keys() == {"index", "message", "logprobs", "finish_reason"}
        assert choice["logprobs"] is None
        assert choice["finish_reason"] == "stop"
        message = choice["message"]
        assert message.keys() == {"role", "content", "refusal", "annotations"}
        assert message["refusal"] is None
        assert message["content"]

    async def test_ids_are_unique(self, api: ElizaApi) -> None:
        ids = {(await answered(api, PATH, ask()))["id"] for _ in range(20)}
        assert len(ids) == 20

    @pytest.mark.parametrize("model", ["eliza", "gpt-6", "acme/any model", "ft:gpt-4o:me::1"])
    async def test_any_model_is_answered_and_echoed(self, api: ElizaApi, model: str) -> None:
        assert (await answered(api, PATH, ask(model=model)))["model"] == model

    @pytest.mark.parametrize("messages", CONTENTS)
    async def test_messages_of_every_kind(
        self, api: ElizaApi, messages: list[dict[str, Any]]
    ) -> None:
        body = json.dumps({"model": "gpt-4o", "messages": messages}).encode()
        assert strict(ChatCompletion, await answered(api, PATH, body)).choices[0].message.content

    async def test_fields_that_are_null_or_unknown(self, api: ElizaApi) -> None:
        null = dict.fromkeys(
            ("n", "stop", "max_tokens", "tools", "tool_choice", "response_format", "stream")
        )
        told = await answered(api, PATH, ask(**null, top_k=40, repeat_penalty=1.1, user="me"))
        assert told["choices"][0]["message"]["content"]

    async def test_a_long_body_is_answered_as_well(self, api: ElizaApi) -> None:
        messages = [{"role": "user", "content": "word " * 3_000}] * 3
        told = await answered(api, PATH, ask(messages=messages))
        assert told["usage"]["prompt_tokens"] > 9_000


class TestUsage:
    async def test_it_is_counted_as_openai_counts(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask("Hello"))
        said = told["choices"][0]["message"]["content"]
        # 3 for the answer's beginning, 3 for the message, 1 for its role, 1 for its text
        assert told["usage"]["prompt_tokens"] == 8
        assert told["usage"]["completion_tokens"] == encoding("o200k_base").count(said)
        usage = told["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]

    async def test_in_the_models_own_encoding(self, api: ElizaApi) -> None:
        text = "Приветствую вас, госпожа доктор"
        for model, name in (("gpt-4", "cl100k_base"), ("anything", "o200k_base")):
            told = await answered(api, PATH, ask(text, model=model))
            assert told["usage"]["prompt_tokens"] == 7 + encoding(name).count(text)

    async def test_tools_and_pictures_count(self, api: ElizaApi) -> None:
        plain = (await answered(api, PATH, ask()))["usage"]["prompt_tokens"]
        tool = {"type": "function", "function": {"name": "f", "description": "Does it."}}
        with_tool = (await answered(api, PATH, ask(tools=[tool])))["usage"]["prompt_tokens"]
        assert with_tool > plain + 7
        parts = [{"type": "text", "text": "I am sad about my mother."}, PICTURE]
        told = await answered(api, PATH, ask(messages=[{"role": "user", "content": parts}]))
        assert told["usage"]["prompt_tokens"] == plain + 85 + 170


class TestStreamed:
    @pytest.mark.parametrize("include", [True, False])
    async def test_every_chunk_is_one_of_openais(self, api: ElizaApi, include: bool) -> None:
        options = {"stream_options": {"include_usage": include}}
        chunks = await streamed(api, PATH, ask(n=2, **options))
        for chunk in chunks:
            strict(ChatCompletionChunk, chunk)
            assert ("usage" in chunk) is include
        heads = [{**chunk, "choices": 0, "usage": 0} for chunk in chunks]
        assert heads == heads[:1] * len(heads)
        if include:
            last = chunks.pop()
            assert last["choices"] == []
            assert last["usage"] == (await answered(api, PATH, ask(n=2)))["usage"]
        for chunk in chunks:
            assert chunk.get("usage") is None
            [choice] = chunk["choices"]
            assert choice.keys() == {"index", "delta", "logprobs", "finish_reason"}
            assert choice["delta"].get("content", "") is not None

    async def test_the_role_comes_first_and_the_reason_last(self, api: ElizaApi) -> None:
        chunks = await streamed(api, PATH, ask())
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
        assert deltas[-1] == {}
        assert reasons == [None] * (len(chunks) - 1) + ["stop"]

    @pytest.mark.parametrize(
        "more", [{}, {"n": 3, "seed": 4}, {"max_tokens": 2}, {"stop": " "}, {"max_tokens": 1}]
    )
    async def test_it_says_what_is_said_unstreamed(
        self, api: ElizaApi, more: dict[str, Any]
    ) -> None:
        told = await answered(api, PATH, ask(**more))
        said = {choice["index"]: "" for choice in told["choices"]}
        reasons = {}
        for chunk in await streamed(api, PATH, ask(**more)):
            for choice in chunk["choices"]:
                said[choice["index"]] += choice["delta"].get("content", "")
                reasons[choice["index"]] = choice["finish_reason"]
        for choice in told["choices"]:
            assert said[choice["index"]] == choice["message"]["content"]
            assert reasons[choice["index"]] == choice["finish_reason"]

    async def test_a_refusal_is_no_stream(self, api: ElizaApi) -> None:
        status, _ = await refused(api, PATH, ask(stream=True, n=0))
        assert status == 400


class TestOptions:
    async def test_n(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask(n=128))
        strict(ChatCompletion, told)
        assert [choice["index"] for choice in told["choices"]] == list(range(128))
        assert len({choice["message"]["content"] for choice in told["choices"]}) > 1

    async def test_a_seed_fixes_the_answer(self, api: ElizaApi) -> None:
        async def said(**more: Any) -> str:
            told = await answered(api, PATH, ask(**more))
            return str([choice["message"]["content"] for choice in told["choices"]])

        assert await said(seed=7, n=4) == await said(seed=7, n=4)
        assert len({await said(seed=seed) for seed in range(20)}) > 1

    async def test_stop(self, api: ElizaApi) -> None:
        whole = (await answered(api, PATH, ask()))["choices"][0]["message"]["content"]
        word = whole.split()[2]
        for stop in (word, [word, "never said"]):
            [choice] = (await answered(api, PATH, ask(stop=stop)))["choices"]
            assert choice["message"]["content"] == whole[: whole.index(word)]
            assert choice["finish_reason"] == "stop"

    @pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
    async def test_a_limit(self, api: ElizaApi, name: str) -> None:
        told = await answered(api, PATH, ask(**{name: 2}))
        [choice] = told["choices"]
        assert choice["finish_reason"] == "length"
        assert encoding("o200k_base").count(choice["message"]["content"]) == 2
        assert told["usage"]["completion_tokens"] == 2

    async def test_a_limit_of_0_is_none(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask(max_tokens=0))
        assert told["choices"][0]["finish_reason"] == "stop"

    @pytest.mark.parametrize(("asked", "given"), [("fast", "priority"), ("flex", "flex")])
    async def test_the_tier_is_told(self, api: ElizaApi, asked: str, given: str) -> None:
        assert (await answered(api, PATH, ask(service_tier=asked)))["service_tier"] == given


def content(value: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": value}]}


REFUSALS = [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": 5}, "model", "invalid_type"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": "Hi"}, "messages", "invalid_type"),
    ({"messages": ["Hi"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "god", "content": ""}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    (
        {"messages": [{"role": "tool", "content": ""}]},
        "messages[0].tool_call_id",
        "missing_required_parameter",
    ),
    (content(None), "messages[0].content", "invalid_type"),
    (content(5), "messages[0].content", "invalid_type"),
    (content([]), "messages[0].content", "empty_array"),
    (content([{"text": "Hi"}]), "messages[0].content[0].type", "missing_required_parameter"),
    (content([{"type": "smell"}]), "messages[0].content[0].type", "invalid_value"),
    (content([{"type": "text"}]), "messages[0].content[0].text", "missing_required_parameter"),
    (
        content([{"type": "image_url"}]),
        "messages[0].content[0].image_url",
        "missing_required_parameter",
    ),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 129}, "n", "integer_above_max_value"),
    ({"n": "1"}, "n", "invalid_type"),
    ({"n": True}, "n", "invalid_type"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"top_p": -1}, "top_p", "decimal_below_min_value"),
    ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
    ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "invalid_parameter_combination"),
    ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
    ({"stop": [1]}, "stop", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"seed": "x"}, "seed", "invalid_type"),
    ({"logprobs": "yes"}, "logprobs", "invalid_type"),
    ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    ({"service_tier": "gold"}, "service_tier", "invalid_value"),
    ({"response_format": "json"}, "response_format", "invalid_type"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "missing_required_parameter",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "not a name"}}},
        "response_format.json_schema.name",
        "invalid_value",
    ),
]


async def test_log_probabilities_that_are_asked_for_are_null(api: ElizaApi) -> None:
    told = await answered(api, PATH, ask(logprobs=True, top_logprobs=3))
    assert [choice["logprobs"] for choice in told["choices"]] == [None]


class TestRefusals:
    @pytest.mark.parametrize(("more", "param", "code"), REFUSALS)
    async def test_in_openais_words(
        self, api: ElizaApi, more: dict[str, Any], param: str, code: str | None
    ) -> None:
        status, error = await refused(api, PATH, ask(**more))
        assert status == 400
        assert error["type"] == "invalid_request_error"
        assert (error["param"], error["code"]) == (param, code)

    async def test_an_overflow_says_so(self, api: ElizaApi) -> None:
        status, error = await refused(api, PATH, ask("word " * 9_000, model="gpt-4"))
        assert status == 400
        assert error["code"] == "context_length_exceeded"
        assert error["message"].startswith("This model's maximum context length is 8192 tokens.")

    async def test_what_is_quoted_is_one_line_of_ascii(self, api: ElizaApi) -> None:
        role = "bö\nse\x00" * 200
        _, error = await refused(api, PATH, ask(messages=[{"role": role, "content": ""}]))
        assert len(error["message"]) < 1_000

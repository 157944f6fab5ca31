"""Eliza's text completions."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion

from server.upstream.local.service import ElizaApi
from tests.server.upstream.local.openai_helpers import WORDS, answered, refused, streamed, strict

PATH = "/completions"
MODEL = "gpt-3.5-turbo-instruct"


def ask(prompt: Any = "I hate my job", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, **more}


async def texts(api: ElizaApi, *args: Any, **more: Any) -> list[str]:
    told = await answered(api, PATH, ask(*args, **more))
    strict(Completion, told)
    return [choice["text"] for choice in told["choices"]]


class TestPrompts:
    async def test_a_string(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask())
        answer = strict(Completion, told)
        assert answer.id.startswith("cmpl-")
        assert answer.object == "text_completion"
        [choice] = told["choices"]
        assert choice.keys() == {"text", "index", "logprobs", "finish_reason"}
        assert told["usage"]["prompt_tokens"] == WORDS.count("I hate my job")
        assert told["usage"]["completion_tokens"] == WORDS.count(choice["text"])

    async def test_strings_and_tokens_in_every_shape(self, api: ElizaApi) -> None:
        [said] = await texts(api)
        tokens = WORDS.encode("I hate my job")
        assert await texts(api, tokens) == [said]
        assert await texts(api, [tokens, tokens]) == [said, said]
        assert await texts(api, ["I hate my job"] * 2) == [said, said]

    async def test_none(self, api: ElizaApi) -> None:
        assert len(await texts(api, None)) == 1

    @pytest.mark.parametrize(
        "prompt",
        [
            "Be brief.\n\nUser: Hello\nAssistant: Hi.\nUser: I hate my job\nAssistant:",
            "### Instruction:\nI hate my job\n\n### Response:\n",
            "<|im_start|>user\nI hate my job<|im_end|>\n<|im_start|>assistant\n",
        ],
    )
    async def test_a_conversation_in_one_text(self, api: ElizaApi, prompt: str) -> None:
        [said] = await texts(api)
        assert [text.strip() for text in await texts(api, prompt)] == [said.strip()]

    async def test_a_long_one_with_nothing_but_space(self, api: ElizaApi) -> None:
        assert len(await texts(api, "\n" * 9_000, model="gpt-4o")) == 1


class TestOptions:
    async def test_16_tokens_are_written_where_no_limit_is_named(self, api: ElizaApi) -> None:
        prompt = "I remember " + "walking slowly " * 10 + "by the sea"
        told = await answered(api, PATH, ask(prompt))
        long = await answered(api, PATH, ask(prompt, max_tokens=200))
        assert long["usage"]["completion_tokens"] > 16
        assert told["usage"]["completion_tokens"] == 16
        assert told["choices"][0]["finish_reason"] == "length"

    async def test_echo_alone(self, api: ElizaApi) -> None:
        assert await texts(api, echo=True, max_tokens=0) == ["I hate my job"]

    async def test_n_for_each_prompt(self, api: ElizaApi) -> None:
        told = await answered(api, PATH, ask(["Hello", "I am sad"], n=3, best_of=4, echo=True))
        assert [choice["index"] for choice in told["choices"]] == list(range(6))
        said = [choice["text"] for choice in told["choices"]]
        assert all(text.startswith("Hello") for text in said[:3])
        assert all(text.startswith("I am sad") for text in said[3:])

    async def test_stop_and_suffix(self, api: ElizaApi) -> None:
        [said] = await texts(api, suffix=" The end.")
        word = said.split()[1]
        assert await texts(api, stop=[word]) == [said[: said.index(word)]]


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"echo": True}, {"max_tokens": 1, "echo": True}])
@pytest.mark.parametrize("include", [True, False])
async def test_streamed(api: ElizaApi, more: dict[str, Any], include: bool) -> None:
    options = {"stream_options": {"include_usage": include}}
    told = await answered(api, PATH, ask(**more))
    chunks = await streamed(api, PATH, ask(**more, **options))
    said = {choice["index"]: "" for choice in told["choices"]}
    reasons = {}
    if include:
        assert chunks[-1]["choices"] == []
        assert chunks.pop()["usage"] == told["usage"]
    for chunk in chunks:
        assert ("usage" in chunk) is include
        [choice] = chunk["choices"]
        reasons[choice["index"]] = choice["finish_reason"]
        said[choice["index"]] += choice["text"]
        # OpenAI's type knows no chunk that is not the last, though its streams have them.
        strict(Completion, {**chunk, "choices": [{**choice, "finish_reason": "stop"}]})
    for choice in told["choices"]:
        assert said[choice["index"]] == choice["text"]
        assert reasons[choice["index"]] == choice["finish_reason"]


async def test_log_probabilities_that_are_asked_for_are_null(api: ElizaApi) -> None:
    told = await answered(api, PATH, ask(logprobs=2))
    assert [choice["logprobs"] for choice in told["choices"]] == [None]


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": [[]]}, "prompt[0]", "invalid_type"),
        ({"prompt": ["a", 5]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, "a"]}, "prompt", "invalid_type"),
        ({"prompt": [99_999_999]}, "prompt", "invalid_value"),
        ({"prompt": ["a"] * 17, "n": 128}, "prompt", "array_above_max_length"),
        ({"prompt": "word " * 5_000}, "prompt", "context_length_exceeded"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"best_of": 1, "n": 2}, "best_of", None),
        ({"best_of": 2, "stream": True}, "best_of", None),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"model": None}, "model", "missing_required_parameter"),
    ],
)
async def test_refusals(api: ElizaApi, more: dict[str, Any], param: str, code: str | None) -> None:
    status, error = await refused(api, PATH, ask(**more))
    assert (status, error["param"], error["code"]) == (400, param, code)

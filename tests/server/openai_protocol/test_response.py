"""Whole answers, given what OpenAI's types require of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from server.openai_protocol.codec import MalformedError, encode, parse
from server.openai_protocol.normalize import TEXT, Head
from server.openai_protocol.response import fit

CHAT = "chat.completion"


def mended(body: object, kind: str = CHAT) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said, good = parse(data)
    return fit(data, said, Head(kind, "asked-for"), good=good)


def choice(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi", "refusal": None}
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", **more}


def whole(*choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": CHAT,
        "created": 1,
        "model": "m",
        "choices": list(choices) or [choice()],
    }


def test_a_right_answer_is_passed_on_as_it_came() -> None:
    data = json.dumps(whole(), indent=3).encode()
    assert mended(data) is data


def test_what_is_missing_is_put_in_and_what_is_there_stays() -> None:
    made = json.loads(mended({"choices": [{"message": {"content": "hi"}, "mine": 1}], "usage": {}}))
    ChatCompletion.model_validate({**made, "usage": None}, strict=True)
    assert made["model"] == "asked-for"
    assert made["id"].startswith("chatcmpl-")
    assert made["choices"][0]["mine"] == 1
    for name in ("logprobs", "finish_reason", "index"):
        assert name in made["choices"][0]
    assert made["choices"][0]["message"]["refusal"] is None


def test_a_text_completion_has_what_its_type_requires() -> None:
    made = json.loads(mended({"choices": [{"text": "a"}, {"text": "b"}]}, TEXT))
    Completion.model_validate(made, strict=True)
    assert [one["index"] for one in made["choices"]] == [0, 1]
    assert made["id"].startswith("cmpl-")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[]",
        b"{}",
        {"choices": []},
        {"choices": "no"},
        {"choices": [1]},
        {"choices": [{"message": "no"}]},
    ],
)
def test_what_is_no_answer_is_refused(body: object) -> None:
    with pytest.raises(MalformedError):
        mended(body)


def test_a_text_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedError):
        mended({"choices": [{"text": None}]}, TEXT)


def test_half_a_letter_is_written_as_it_came() -> None:
    assert parse(encode({"a": "\ud83d"})) == ({"a": "\ud83d"}, False)


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def said(**message: Any) -> dict[str, Any]:
    return whole(choice(message={"role": "assistant", "content": None, "refusal": None, **message}))


def fitted(body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as OpenAI's own type takes it."""
    made = json.loads(mended(body))
    ChatCompletion.model_validate(made, strict=True)
    assert isinstance(made, dict)
    return made


class TestCalls:
    def test_they_get_an_id_and_a_type(self) -> None:
        body = said(tool_calls=[{"function": CALL["function"]}, {**CALL, "id": ""}])
        calls = fitted(body)["choices"][0]["message"]["tool_calls"]
        assert [call["type"] for call in calls] == ["function", "function"]
        assert all(call["id"].startswith("call_") for call in calls)
        assert calls[0]["id"] != calls[1]["id"]

    def test_one_of_a_custom_tool_is_custom(self) -> None:
        body = said(tool_calls=[{"custom": {"name": "sh", "input": "ls"}}])
        assert fitted(body)["choices"][0]["message"]["tool_calls"][0]["type"] == "custom"

    @pytest.mark.parametrize(("given", "text"), [({"a": "é"}, '{"a":"é"}'), (None, "{}")])
    def test_arguments_are_a_text(self, given: object, text: str) -> None:
        function = {"name": "f", "arguments": given}
        message = fitted(said(tool_calls=[{**CALL, "function": function}]))["choices"][0]["message"]
        assert message["tool_calls"][0]["function"]["arguments"] == text
        message = fitted(said(function_call=dict(function)))["choices"][0]["message"]
        assert message["function_call"]["arguments"] == text

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ({"tool_calls": [CALL]}, "tool_calls"),
            ({"function_call": CALL["function"]}, "function_call"),
            ({"content": "hi", "tool_calls": []}, "stop"),
        ],
    )
    @pytest.mark.parametrize("told", [None, "", "eos"])
    def test_an_ending_that_is_missing_is_theirs(
        self, message: dict[str, Any], reason: str, told: str | None
    ) -> None:
        body = said(**message)
        body["choices"][0]["finish_reason"] = told
        assert fitted(body)["choices"][0]["finish_reason"] == reason
        body["choices"][0]["finish_reason"] = "length"
        assert fitted(body)["choices"][0]["finish_reason"] == "length"

    @pytest.mark.parametrize("calls", ["no", {"a": 1}, [5]])
    def test_what_are_none_are_refused(self, calls: object) -> None:
        with pytest.raises(MalformedError):
            mended(said(tool_calls=calls))


class TestTypes:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
            ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "c"], "c"),
            ([], ""),
            ({"type": "text", "text": "a"}, "a"),
            (5, "5"),
            (True, "true"),
            (None, None),
        ],
    )
    def test_a_content_is_a_text(self, content: object, text: str | None) -> None:
        assert fitted(said(content=content))["choices"][0]["message"]["content"] == text

    @pytest.mark.parametrize("given", [[], "no", 5])
    def test_log_probabilities_that_are_none_are_null(self, given: object) -> None:
        assert fitted(whole(choice(logprobs=given)))["choices"][0]["logprobs"] is None

    @pytest.mark.parametrize("tier", ["on_demand", 5, ["auto"]])
    def test_a_tier_that_nobody_knows_is_left_out(self, tier: object) -> None:
        assert "service_tier" not in fitted({**whole(), "service_tier": tier})
        assert fitted({**whole(), "service_tier": "flex"})["service_tier"] == "flex"

    @pytest.mark.parametrize(
        ("told", "counts"),
        [
            ({"prompt_tokens": 3}, (3, 0, 3)),
            ({"prompt_tokens": 3, "total_tokens": 5}, (3, 2, 5)),
            ({"completion_tokens": 2, "total_tokens": 5}, (3, 2, 5)),
            ({"prompt_tokens": 3.0, "completion_tokens": None, "total_tokens": "x"}, (3, 0, 3)),
        ],
    )
    def test_a_usage_has_all_its_counts(
        self, told: dict[str, Any], counts: tuple[int, int, int]
    ) -> None:
        usage = fitted({**whole(), "usage": {**told, "mine": 1}})["usage"]
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        assert tuple(usage[name] for name in names) == counts
        assert usage["mine"] == 1

    @pytest.mark.parametrize("usage", [{}, [], 5, None])
    def test_a_usage_of_no_counts_is_null(self, usage: object) -> None:
        assert fitted({**whole(), "usage": usage})["usage"] is None

"""Whole answers, given what OpenAI's types require of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from server.upstream.mend import TEXT, Head, answer, encode, parse
from server.upstream.port import UpstreamFailedError

CHAT = "chat.completion"


def mended(body: object, kind: str = CHAT) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said, good = parse(data)
    return answer(data, said, Head(kind, "asked-for"), good=good)


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
    with pytest.raises(UpstreamFailedError):
        mended(body)


def test_a_text_that_is_none_is_refused() -> None:
    with pytest.raises(UpstreamFailedError):
        mended({"choices": [{"text": None}]}, TEXT)


def test_half_a_letter_is_written_as_it_came() -> None:
    assert parse(encode({"a": "\ud83d"})) == ({"a": "\ud83d"}, False)

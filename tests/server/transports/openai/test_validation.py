"""Requests that nobody could answer are refused in OpenAI's words; all others pass."""

from __future__ import annotations

from typing import Any

import pytest

from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.transports.openai import validation

SAID = [{"role": "user", "content": "hi"}]
PART = {"type": "text", "text": "hi"}


def chat(**asked: Any) -> str:
    return validation.chat(Fields({"model": "m", "messages": SAID, **asked}))


def said(**message: Any) -> str:
    return chat(messages=[message])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": ""},
        {"role": "system", "content": "x"},
        {"role": "developer", "content": [PART]},
        {"role": "assistant", "content": None},
        {"role": "assistant", "tool_calls": []},
        {"role": "function", "name": "f", "content": None},
        {"role": "tool", "tool_call_id": "x", "content": [PART]},
        {"role": "user", "content": [PART, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": [{"type": "video_url", "video_url": {}}]},
        {"role": "user", "content": [{"type": "text", "text": ""}]},
    ],
)
def test_messages_as_clients_send_them_pass(message: dict[str, Any]) -> None:
    assert said(**message) == "m"


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": None, "n": None, "stop": None, "stream": None, "tools": None},
        {"temperature": 2, "top_p": 0.5, "max_tokens": 0, "n": 1.0},
        {"max_tokens": -1, "temperature": 5},
        {"stop": "x"},
        {"stop": ["x", "y"]},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"top_k": 5, "unknown": {"deep": []}},
        {"tools": []},
        {"logit_bias": {}, "response_format": {"type": "json_object"}},
    ],
)
def test_options_that_an_upstream_may_know_pass(asked: dict[str, Any]) -> None:
    assert chat(**asked) == "m"


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": ""}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "x", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": 5, "content": ""}]}, "messages[0].role", "invalid_type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "empty_array"),
        (
            {"messages": [*SAID, {"role": "user", "content": ["x"]}]},
            "messages[1].content[0]",
            "invalid_type",
        ),
        (
            {"messages": [{"role": "user", "content": [{}]}]},
            "messages[0].content[0].type",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens", "invalid_type"),
        ({"n": [1]}, "n", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": []}, "stream_options", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stop": [5]}, "stop", "invalid_type"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"logprobs": 5}, "logprobs", "invalid_type"),
        ({"user": 5}, "user", "invalid_type"),
    ],
)
def test_what_is_wrong_is_named(asked: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        chat(**asked)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.status == 400
    assert param in refused.value.message or code == "invalid_value"


@pytest.mark.parametrize("prompt", [None, "x", "", ["x", "y"], [1, 2], [[1], [2, 3]]])
def test_prompts_of_every_shape_pass(prompt: Any) -> None:
    assert validation.completion(Fields({"model": "m", "prompt": prompt})) == "m"


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (5, "prompt"),
        ({}, "prompt"),
        ([], "prompt"),
        ([1, "x"], "prompt[1]"),
        (["x", 1], "prompt[1]"),
        ([None], "prompt[0]"),
        ([True], "prompt[0]"),
        ([[]], "prompt[0]"),
        ([[1.5]], "prompt[0]"),
    ],
)
def test_other_prompts_do_not(prompt: Any, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        validation.completion(Fields({"model": "m", "prompt": prompt}))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"model": "m", "input": "x", "dimensions": "5"}, "dimensions"),
    ],
)
def test_embeddings_are_checked(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        validation.embedding(Fields(asked))
    assert refused.value.param == param


def test_moderations_need_no_model() -> None:
    assert validation.moderation(Fields({"input": "x"})) is None
    with pytest.raises(ApiError):
        validation.moderation(Fields({}))

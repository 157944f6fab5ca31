"""Messages in OpenAI's shape, kept and told again."""

from __future__ import annotations

from typing import Any

import pytest

from server.openai_protocol.messages import content_of, is_answer_to_a_call, message_of, role_of
from storage.model import Content, PromptMessage, Role

FUNCTION = {"name": "f", "arguments": "{}"}
CALL = {"id": "c1", "type": "function", "function": FUNCTION}
CUSTOM = {"id": "c2", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
REFUSAL = {"type": "refusal", "refusal": "No."}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": [text("Look"), IMAGE]},
        {"role": "assistant", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CUSTOM]},
        {"role": "assistant", "content": "Wait.", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "function_call": FUNCTION},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": "Well,", "refusal": "No."},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c1", "content": [text("4"), text("2")]},
        {"role": "function", "name": "f", "content": "42"},
    ],
)
def test_what_is_kept_is_told_again_as_it_was(message: dict[str, Any]) -> None:
    assert message_of(PromptMessage(role_of(message), content_of(message))) == message


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"role": "assistant", "content": None}, ""),
        ({"role": "user", "content": [text("One part")]}, "One part"),
        ({"role": "assistant", "content": "", "refusal": "No."}, [REFUSAL]),
        ({"role": "assistant", "content": [REFUSAL], "refusal": "No."}, [REFUSAL]),
        ({"role": "assistant", "content": "", "tool_calls": [{"index": 0, **CALL}]}, [CALL]),
        (
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": FUNCTION}]},
            [{"type": "function", "id": "c1", "function": FUNCTION}],
        ),
    ],
)
def test_what_is_kept(message: dict[str, Any], content: Content) -> None:
    assert content_of(message) == content


def test_a_refusal_that_was_kept_with_an_empty_text_is_told_without_it() -> None:
    told = message_of(PromptMessage(Role.ASSISTANT, [text(""), REFUSAL]))
    assert told == {"role": "assistant", "content": None, "refusal": "No."}


@pytest.mark.parametrize(
    ("content", "can_be_sent"),
    [
        ("42", False),
        ([text("42")], False),
        ([{**text("42"), "tool_call_id": "c1"}], True),
        ([{**text("42"), "name": "f"}], True),
    ],
)
def test_what_answers_a_call_names_it(content: Content, can_be_sent: bool) -> None:
    assert is_answer_to_a_call(content) is can_be_sent

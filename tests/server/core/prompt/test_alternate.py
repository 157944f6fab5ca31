"""What is sent obeys the rules of every chat template, whatever was said, and says all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.prompt.alternate import GREETED, alternate
from storage.model import PromptMessage, Role, text_of

CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": "{}"}}
SECOND = {**CALL, "id": "c2"}


def said(role: Role, content: Any) -> PromptMessage:
    return PromptMessage(role, content)


def system(content: Any) -> PromptMessage:
    return said(Role.SYSTEM, content)


def user(content: Any) -> PromptMessage:
    return said(Role.USER, content)


def assistant(content: Any) -> PromptMessage:
    return said(Role.ASSISTANT, content)


def result(call: str, text: str = "4 degrees") -> PromptMessage:
    return said(Role.TOOL, [{"type": "text", "text": text, "tool_call_id": call}])


words = st.sampled_from(("Hello", "Dobrý den", "你好", "…", "What?"))
parts = words.map(lambda text: [{"type": "text", "text": text}])
spoken = st.one_of(words, parts)
calls = st.sampled_from(([CALL], [CALL, SECOND], [{"type": "text", "text": "So"}, CALL]))
messages = st.one_of(
    st.builds(system, spoken),
    st.builds(user, spoken),
    st.builds(user, spoken),
    st.builds(assistant, spoken),
    st.builds(assistant, calls),
    st.builds(result, st.sampled_from(("c1", "c2", "c3"))),
)


def strictest(told: Sequence[PromptMessage]) -> None:
    """Raise where any of Gemma's, Mistral's, Llama's and Qwen's templates would."""
    rest = list(told[1:] if told and told[0].role is Role.SYSTEM else told)
    assert all(one.role is not Role.SYSTEM for one in rest), "system must be at the beginning"
    plain = [one for one in rest if one.role is not Role.TOOL and not called(one)]
    roles = [one.role for one in plain]
    assert roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2) + [Role.USER] * (len(roles) % 2)
    assert not rest or rest[0].role is Role.USER
    waiting: set[Any] = set()
    for one in rest:
        if one.role is Role.TOOL:
            waiting.remove(one.content[0]["tool_call_id"])  # type: ignore[index]
            continue
        assert not waiting, "a call has no answer"
        waiting = {call["id"] for call in called(one)}
    assert not waiting


def called(one: PromptMessage) -> list[Mapping[str, Any]]:
    if one.role is not Role.ASSISTANT or isinstance(one.content, str):
        return []
    return [part for part in one.content if part["type"] == "function"]


@settings(deadline=None, max_examples=300)
@given(st.lists(messages, max_size=14))
def test_every_template_takes_it(history: list[PromptMessage]) -> None:
    told = alternate([*history, user("And now?")])
    strictest(told)
    assert text_of(told[-1].content).endswith("And now?")
    whole = "\n".join(text_of(one.content) for one in told)
    for one in history:
        assert text_of(one.content) in whole
    assert alternate(told) == told


def test_what_alternates_already_is_left_as_it_is() -> None:
    history = [system("Be kind."), user("a"), assistant("b"), user([{"type": "text", "text": "c"}])]
    told = alternate(history)
    assert all(one is other for one, other in zip(told, history, strict=True))


def test_calls_that_were_answered_stay_calls() -> None:
    history = [user("a"), assistant([CALL]), result("c1"), assistant("cold"), user("b")]
    assert alternate(history) == history


def test_an_open_question_keeps_its_results() -> None:
    history = [user("a"), assistant([CALL]), result("c1")]
    assert alternate(history) == history


def test_questions_without_an_answer_are_joined() -> None:
    told = alternate([user("Hello"), user("Hello again")])
    assert told == [user("Hello\n\nHello again")]


def test_a_summary_and_a_greeting_go_into_the_system_message() -> None:
    told = alternate([system("Be kind."), system("Summary"), assistant("Arr!"), user("Hi")])
    assert told == [system(f"Be kind.\n\nSummary\n\n{GREETED}Arr!"), user("Hi")]


def test_a_call_nobody_answered_is_told_as_words() -> None:
    told = alternate([user("a"), assistant([CALL]), user("b")])
    assert told == [user("a"), assistant("[Called weather({})]"), user("b")]


@pytest.mark.parametrize("image", [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])
def test_an_image_is_joined_too(image: Mapping[str, Any]) -> None:
    told = alternate([user([image]), user("What is it?")])
    assert told == [user([image, {"type": "text", "text": "What is it?"}])]

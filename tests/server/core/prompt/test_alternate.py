"""What is sent obeys the rules of every chat template, whatever was said, and says all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.prompt.alternate import GREETED, alternate
from storage.model import PromptMessage, Role, text_of
from tests.server.core.strictest import check_strictest

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


@settings(deadline=None, max_examples=300)
@given(st.lists(messages, max_size=14))
def test_every_template_takes_it(history: list[PromptMessage]) -> None:
    told = alternate([*history, user("And now?")])
    check_strictest(told)
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

"""Tests of what a question, a number, metadata and a title may look like."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core import validation
from server.core.errors import InvalidRequestError
from server.core.turns.questions import Ask, Regenerate, check_ask, check_regenerate
from storage.model import Content, text_of

IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
TEXT = {"type": "text", "text": "What is this?"}
GOOD: list[Content] = [
    "Hi",
    " a ",
    "👩‍👩‍👧‍👦",
    "\u200f",
    "line\nline\t",
    "\x01",
    [TEXT],
    [IMAGE],
    [TEXT, IMAGE],
]
BAD: list[Any] = [
    "",
    " \n\t\u3000",
    "a\x00b",
    "\ud800",
    "x\udc00",
    [],
    [{"type": "text", "text": " "}],
    [{"type": "text", "text": "a\x00"}],
    [{"type": "text", "text": "\ud83d"}],
    [{"type": "text", "text": 5}],
    [{"type": "text"}],
    [{"type": "input_audio", "input_audio": {}}],
    [{}],
    [{"type": "image_url", "image_url": {}}],
    [{"type": "image_url", "image_url": {"url": "x", "detail": "huge"}}],
    [{"type": "image_url", "image_url": {"url": "x", "detail": []}}],
    [{"type": "image_url", "image_url": {"url": "x", "more": 1}}],
    [{"type": "image_url", "image_url": {"url": "\udfff"}}],
    [{"type": "image_url", "image_url": "x"}],
]


def refused(check: Callable[[], Any]) -> str | None:
    """Return the parameter that a refusal names."""
    with pytest.raises(InvalidRequestError) as error:
        check()
    assert "\n" not in str(error.value)
    return error.value.param


@pytest.mark.parametrize("content", GOOD, ids=range(len(GOOD)))
def test_good_questions_are_taken(content: Content) -> None:
    taken = validation.content(content)
    assert text_of(taken) == text_of(content)
    assert isinstance(taken, str) == isinstance(content, str)


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_bad_questions_are_refused(content: Any) -> None:
    param = refused(lambda: validation.content(content))
    assert param is not None
    assert param.startswith(("prompt", "content"))


def test_a_part_is_kept_without_what_nobody_knows() -> None:
    given = [{**TEXT, "cache_control": {"type": "ephemeral"}}, IMAGE]
    assert validation.content(given) == [
        TEXT,
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}},
    ]


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_whatever_text_is_taken_can_be_written_as_utf_8(text: str) -> None:
    try:
        taken = validation.content(text)
    except InvalidRequestError:
        return
    assert taken == text
    assert "\x00" not in text
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", (1 << 31) + 1),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 1.01),
        ("top_p", -0.01),
        ("seed", 1 << 63),
        ("seed", -(1 << 63) - 1),
        ("stop", ("a", "b", "c", "d", "e")),
        ("stop", ("",)),
        ("stop", ("\ud800",)),
        ("model", ""),
        ("model", "  "),
        ("model", "a\nb"),
        ("model", "m" * 257),
        ("model", "\ud800"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(field: str, value: Any) -> None:
    assert refused(lambda: check_ask(Ask("Hi", **{field: value}))) == field
    assert refused(lambda: check_regenerate(Regenerate(**{field: value}))) == field


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 1},
        {"temperature": 0, "top_p": 0},
        {"temperature": 2, "top_p": 1},
        {"seed": (1 << 63) - 1},
        {"seed": -(1 << 63)},
        {"stop": ("\n", "b", "c", "d")},
        {"model": "ft:gpt-4o:org::id"},
        {"system_prompt": ""},
        {"idempotency_key": "k" * 255},
    ],
)
def test_what_is_just_within_bounds_is_taken(fields: dict[str, Any]) -> None:
    assert check_ask(Ask("Hi", **fields)) == Ask("Hi", **fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("system_prompt", "a\x00"),
        ("system_prompt", "\ud800"),
        ("idempotency_key", "k" * 256),
        ("idempotency_key", "\ud800"),
        ("parent_id", "\ud800"),
    ],
)
def test_texts_that_cannot_be_kept_are_refused(field: str, value: Any) -> None:
    param = refused(lambda: check_ask(Ask("Hi", **{field: value})))
    assert param == field.replace("idempotency_key", "idempotency-key")


@pytest.mark.parametrize(
    "metadata",
    [{}, {"a": [1, 2.5, None, True, {"b": "ü🙂"}]}, {"k": "x" * 16_000}, {"a": "\x00"}],
)
def test_metadata_is_any_json_object(metadata: Mapping[str, Any]) -> None:
    assert validation.metadata(metadata) == metadata


def deep(levels: int) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


@pytest.mark.parametrize(
    "metadata",
    [
        {"k": "x" * (17 << 10)},
        {"k": "é" * 9_000},
        {"k": math.nan},
        {"k": "\ud800"},
        {"k": {1}},
        {"k": 1 << 64},
        {"k": [-(1 << 63) - 1]},
        {"k": 10**400},
    ],
    ids=range(8),
)
def test_what_is_no_json_or_too_much_is_refused(metadata: Mapping[str, Any]) -> None:
    assert refused(lambda: validation.metadata(metadata)) == "metadata"


def test_metadata_that_is_taken_can_be_read_back_however_deep() -> None:
    for levels in (100, 900, 2_000):
        try:
            taken = validation.metadata(deep(levels))
        except InvalidRequestError:
            continue
        assert json.loads(json.dumps(taken)) == taken


@pytest.mark.parametrize("odd", [1 << 64, math.inf, "\x00", "\ud800"], ids=range(4))
def test_a_message_of_parts_that_cannot_be_read_back_is_refused(odd: Any) -> None:
    said = [{"type": "text", "text": "x", "n": [odd]}]
    assert refused(lambda: validation.spoken(said)) == "messages"


@pytest.mark.parametrize("value", [0, -1, 101])
def test_a_page_has_1_to_100(value: int) -> None:
    assert refused(lambda: validation.limit(value)) == "limit"
    assert validation.limit(1) == 1
    assert validation.limit(100) == 100


@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_a_cursor_is_a_position(value: int) -> None:
    assert refused(lambda: validation.cursor(value)) == "after"
    assert validation.cursor(0) == 0


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Why is the sky blue?", "Why is the sky blue?"),
        ("  Why\n\n is\tthe sky ", "Why is the sky"),
        ("word " * 40, ("word " * 12).strip() + "…"),
        ("x" * 400, "x" * 60 + "…"),
        ("x" * 60, "x" * 60),
        ("漢" * 61, "漢" * 60 + "…"),
        ([TEXT, IMAGE], "What is this?"),
        ([IMAGE], ""),
    ],
)
def test_a_title_is_the_start_of_a_question_on_one_line(question: Content, title: str) -> None:
    assert validation.title_of(question) == title


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=500))
def test_a_title_is_short_and_one_line_whatever_is_asked(question: str) -> None:
    title = validation.title_of(question)
    assert len(title) <= 61
    assert len(title.splitlines()) <= 1

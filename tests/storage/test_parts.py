"""Tests of an answer's row: content and row are two ways to write the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from storage.model import answer_of
from storage.parts import (
    MARK,
    Kind,
    Mark,
    Part,
    content_of,
    length_of,
    marks_json,
    marks_of,
    row_of,
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.just(MARK)
heads = st.builds(Part, st.sampled_from((Kind.TEXT, Kind.REASONING, Kind.REFUSAL))) | st.builds(
    Part, st.sampled_from((Kind.TOOL_CALL, Kind.CUSTOM_TOOL_CALL)), st.none() | words, words
)
results = st.builds(Part, st.just(Kind.TOOL_RESULT), words)
said = st.lists(st.tuples(heads | results, words), max_size=6)


def row(first: str, parts: list[tuple[Part, str]]) -> tuple[str, tuple[Mark, ...]]:
    """Return a row as an answer grows: one that begins with text has no mark for it."""
    text, marks = first, []
    for part, words_ in parts:
        if part.kind is Kind.TEXT and not text:
            text += words_
            continue
        marks.append(Mark(len(text), part))
        text += MARK + words_
    return text, tuple(marks)


@given(words, said)
def test_a_row_is_what_its_content_says(first: str, parts: list[tuple[Part, str]]) -> None:
    written, marks = row(first, parts)
    content = content_of(written, marks)
    assert row_of(content) == (written, marks)
    assert length_of(content) == len(written)
    texts = [first, *(told for part, told in parts if part.kind is Kind.TEXT)]
    assert answer_of(content) == "".join(texts)


@given(said)
def test_marks_are_read_from_the_lines_that_they_were_written_in(
    parts: list[tuple[Part, str]],
) -> None:
    _, marks = row("", parts)
    half = len(marks) // 2
    lines = [marks_json(marks[:half]), marks_json(marks[half:])]
    assert marks_of("\n".join(line for line in lines if line is not None)) == marks
    assert all("\n" not in line for line in lines if line is not None)


def test_text_alone_is_its_row() -> None:
    assert content_of("Hello", ()) == "Hello"
    assert row_of("Hello") == ("Hello", ())
    assert marks_json(()) is None
    assert marks_of(None) == ()


def test_parts_in_openais_shape() -> None:
    content: list[dict[str, Any]] = [
        {"type": "reasoning", "text": "Hm"},
        {"type": "text", "text": "Looking."},
        {"type": "function", "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"type": "custom", "id": "b", "custom": {"name": "g", "input": "x"}},
        {"type": "tool_result", "tool_call_id": "a", "text": "18 C"},
        {"type": "refusal", "refusal": "No."},
    ]
    written, marks = row_of(content)
    assert written == f"{MARK}Hm{MARK}Looking.{MARK}{{}}{MARK}x{MARK}18 C{MARK}No."
    assert content_of(written, marks) == content
    assert answer_of(content) == "Looking."


def test_what_no_answer_of_ours_has_is_passed_over() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    odd = {"type": "function", "function": {"name": "f"}}
    assert row_of([image, {"type": "text", "text": "Hi"}, odd]) == ("Hi", ())

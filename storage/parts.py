"""An answer of several parts as one row of characters, some of which are marks.

A mark takes one position and says that the characters behind it are a part of another kind. An
answer begins as text without one, so an answer of text alone is the row itself, and every integer
names one place in an answer whatever it is made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from storage.model import Content

#: What stands in a row where a mark is; the same letter in a text is no mark.
MARK = "\N{OBJECT REPLACEMENT CHARACTER}"


class Kind(StrEnum):
    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_CALL = "tool_call"
    CUSTOM_TOOL_CALL = "custom_tool_call"
    TOOL_RESULT = "tool_result"
    #: stood here and was deleted; its place stays
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Part:
    """What the characters of a part are: a call has an `id` and a `name`, a result the call's."""

    kind: Kind
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a part begins in a row; its characters begin one further."""

    position: int
    part: Part


def content_of(row: str, marks: Sequence[Mark]) -> Content:
    """Return what a row says: its text, or parts where it is more."""
    return [_written(part, said) for part, said in _spans(row, marks)] if marks else row


def row_of(content: Content) -> tuple[str, tuple[Mark, ...]]:
    """Return the row and the marks of an answer; the inverse of `content_of`.

    What no answer of ours can have, such as an image in an imported one, has no place in it.
    """
    if isinstance(content, str):
        return content, ()
    pieces: list[str] = []
    marks: list[Mark] = []
    length = 0
    for part, said in _read(content):
        if marks or length or part.kind is not Kind.TEXT:
            marks.append(Mark(length, part))
            pieces.append(MARK)
            length += 1
        pieces.append(said)
        length += len(said)
    return "".join(pieces), tuple(marks)


def parts_of(content: Content) -> list[tuple[Part, str]]:
    """Return the parts of an answer with what each says, by the places that followers are told."""
    return _spans(*row_of(content))


def is_erased(content: Content) -> bool:
    """Say whether nothing is left of what a message said."""
    if isinstance(content, str):
        return False
    return bool(content) and all(part.get("type") == Kind.ERASED for part in content)


def erased(content: Content, place: int | None = None) -> Content:
    """Return a content of which nothing is left, or not the part at a place."""
    if place is None:
        return [_written(Part(Kind.ERASED), "")]
    parts = [*parts_of(content)]
    parts[place] = Part(Kind.ERASED), ""
    return [_written(part, said) for part, said in parts]


def length_of(content: Content) -> int:
    """Return how many positions an answer's row has."""
    return len(content) if isinstance(content, str) else len(row_of(content)[0])


def marks_json(marks: Iterable[Mark]) -> str | None:
    """Return marks as one line of JSON; None where there are none."""
    told = [[mark.position, mark.part.kind, mark.part.id, mark.part.name] for mark in marks]
    return json.dumps(told) if told else None


def marks_of(lines: str | None) -> tuple[Mark, ...]:
    """Return the marks of lines of `marks_json`."""
    return tuple(
        Mark(position, Part(Kind(kind), id_, name))
        for line in (lines or "").split("\n")
        if line
        for position, kind, id_, name in json.loads(line)
    )


def _spans(row: str, marks: Sequence[Mark]) -> list[tuple[Part, str]]:
    begins = [mark.position for mark in marks]
    parts = [
        (mark.part, row[mark.position + 1 : end])
        for mark, end in zip(marks, [*begins, len(row)][1:], strict=True)
    ]
    first = row[: begins[0]] if begins else row
    return [(Part(Kind.TEXT), first), *parts] if first else parts


def _written(part: Part, said: str) -> dict[str, Any]:
    named = {} if part.id is None else {"id": part.id}
    match part.kind:
        case Kind.TOOL_CALL:
            function = {"name": part.name or "", "arguments": said}
            return {"type": "function", **named, "function": function}
        case Kind.CUSTOM_TOOL_CALL:
            return {"type": "custom", **named, "custom": {"name": part.name or "", "input": said}}
        case Kind.TOOL_RESULT:
            return {"type": "tool_result", "tool_call_id": part.id or "", "text": said}
        case Kind.REFUSAL:
            return {"type": "refusal", "refusal": said}
        case Kind.ERASED:
            return {"type": "erased"}
        case _:
            return {"type": part.kind.value, "text": said}


def _read(content: Sequence[Mapping[str, Any]]) -> Iterable[tuple[Part, str]]:
    for written in content:
        match written:
            case {"type": "function", "function": {"name": str(name), "arguments": str(said)}}:
                yield Part(Kind.TOOL_CALL, _id(written.get("id")), name), said
            case {"type": "custom", "custom": {"name": str(name), "input": str(said)}}:
                yield Part(Kind.CUSTOM_TOOL_CALL, _id(written.get("id")), name), said
            case {"type": "tool_result", "text": str(said)}:
                yield Part(Kind.TOOL_RESULT, _id(written.get("tool_call_id"))), said
            case {"type": "refusal", "refusal": str(said)}:
                yield Part(Kind.REFUSAL), said
            case {"type": "erased"}:
                yield Part(Kind.ERASED), ""
            case {"type": "text" | "reasoning" as kind, "text": str(said)}:
                yield Part(Kind(kind)), said


def _id(told: object) -> str | None:
    return told if isinstance(told, str) else None

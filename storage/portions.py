"""What is much, looked through once and cut into what one transaction writes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from storage.model import Message, Turn
from storage.port import AlreadyExistsError, Piece

Sized = TypeVar("Sized", Message, Turn, Piece)


def steps(
    messages: Sequence[Message], turns: Sequence[Turn], rows: int, most: int
) -> Sequence[tuple[Sequence[Message], Sequence[Turn]]]:
    """Return what each step of an import writes, one at least; turns come with or after the last
    of the messages.
    """
    said, begun = list(portions(messages, rows, most)), list(portions(turns, rows, most))
    if len(said) <= 1 and len(begun) <= 1:
        return [(messages, turns)]
    return [*((part, ()) for part in said), *(((), part) for part in begun)]


def check_distinct(items: Sequence[Message] | Sequence[Turn]) -> None:
    """Raise AlreadyExistsError for an id that stands twice in an import."""
    seen: set[str] = set()
    for one in items:
        if one.id in seen:
            raise AlreadyExistsError(f"{one.id!r} stands twice in what is to be kept.")
        seen.add(one.id)


def portions(items: Sequence[Sized], rows: int, most: int) -> Iterator[Sequence[Sized]]:
    """Yield what one step writes of these, in order: so many rows and characters at most.

    A single one may have more.
    """
    first, characters = 0, 0
    for place, item in enumerate(items):
        size = _characters(item)
        full = place - first >= rows or characters + size > most
        if place > first and full:
            yield items[first:place]
            first, characters = place, 0
        characters += size
    if first < len(items):
        yield items[first:]


def _characters(item: Message | Turn | Piece) -> int:
    match item:
        case Piece():
            return len(item.text)
        case Turn():
            return 0  # its answer is a message's
    if isinstance(item.content, str):
        return len(item.content)
    return sum(len(str(value)) for part in item.content for value in part.values())

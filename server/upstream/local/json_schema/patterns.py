"""Texts that match a regular expression: made from it, and checked without backtracking.

Python's own matcher is not used on patterns that strangers send: some take it for ever.
"""

from __future__ import annotations

import importlib
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: Bounds on what a hostile pattern can cost.
LONGEST_PATTERN = 1_000
LONGEST_TEXT = 2_000
_STEPS = 200_000

_syntax: Any = importlib.import_module("re._parser")
_name: Any = importlib.import_module("re._constants")

_WORDLY = string.ascii_letters + string.digits + "_"
_CLASSES = {
    _name.CATEGORY_DIGIT: string.digits,
    _name.CATEGORY_WORD: _WORDLY,
    _name.CATEGORY_SPACE: " \t\n\r\f\v",
}
_OPPOSITES = {
    _name.CATEGORY_NOT_DIGIT: _name.CATEGORY_DIGIT,
    _name.CATEGORY_NOT_WORD: _name.CATEGORY_WORD,
    _name.CATEGORY_NOT_SPACE: _name.CATEGORY_SPACE,
}
#: What is tried where a set of characters leaves a choice.
_LIKED = "aeiourstnlAEIOU0123456789" + string.ascii_letters + string.punctuation + " "
#: A named group as ECMA 262 writes it.
_NAMED = re.compile(r"\(\?<(?![=!])")
_FLAGS = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.LOCALE

Node = tuple[Any, Any]


class PatternError(ValueError):
    """A pattern cannot be read, or is beyond what is understood here."""


@dataclass
class Pattern:
    """A regular expression of ECMA 262's and Python's common ground."""

    source: str

    def __post_init__(self) -> None:
        """Read the expression. Raises PatternError."""
        if len(self.source) > LONGEST_PATTERN:
            raise PatternError("the pattern is too long")
        try:
            parsed = _syntax.parse(_NAMED.sub("(?P<", self.source))
        except (re.error, OverflowError, RecursionError, FutureWarning) as error:
            raise PatternError(f"the pattern cannot be read: {error}") from error
        if parsed.state.flags & _FLAGS:
            raise PatternError("the pattern has flags")
        self._nodes: list[Node] = list(parsed)
        self._letters: dict[int, str] = {}

    def matches(self, text: str) -> bool:
        """Say whether the pattern is found anywhere in a text. Raises PatternError."""
        starts = set(range(len(text) + 1))
        return bool(_Reader(text).ends(self._nodes, starts))

    def samples(self, turn: int = 0) -> Iterator[str]:
        """Yield texts made from the pattern, ever longer; those that it excludes are included.

        `turn` leads to other letters and alternatives. Raises PatternError.
        """
        for extra in range(64):
            writer = _Writer(turn, extra, self._letters)
            yield writer.write(self._nodes)
            if not writer.stretched:
                return


@dataclass
class _Writer:
    """Writes one text; each unbounded repetition is repeated `extra` times more than it must."""

    turn: int
    extra: int
    letters: dict[int, str]
    stretched: bool = False
    _length: int = 0
    _steps: int = 0

    def write(self, nodes: Sequence[Node]) -> str:
        self._steps += 1
        if self._steps > LONGEST_TEXT:
            raise PatternError("the pattern is too much work")
        return "".join(self._one(kind, value) for kind, value in nodes)

    def _one(self, kind: Any, value: Any) -> str:
        match kind:
            case _name.LITERAL:
                return self._said(chr(value))
            case _name.ANY | _name.IN | _name.NOT_LITERAL:
                return self._said(self._letter(kind, value))
            case _name.BRANCH:
                return self.write(value[1][self.turn % len(value[1])])
            case _name.SUBPATTERN:
                return self.write(value[3])
            case _name.MAX_REPEAT | _name.MIN_REPEAT:
                return self._repeated(*value)
            case _name.AT | _name.ASSERT | _name.ASSERT_NOT:
                return ""
            case _:
                raise PatternError(f"the pattern uses {kind}")

    def _repeated(self, least: int, most: int, nodes: Sequence[Node]) -> str:
        times = min(least + self.extra, most)
        self.stretched = self.stretched or least + self.extra < most
        return "".join(self.write(nodes) for _ in range(times))

    def _said(self, letter: str) -> str:
        self._length += 1
        if self._length > LONGEST_TEXT:
            raise PatternError("what the pattern asks for is too long")
        return letter

    def _letter(self, kind: Any, value: Any) -> str:
        choice = self.letters.get(id(value))
        if choice is None:
            choice = self.letters[id(value)] = _letters(kind, value)
        return choice[(self.turn + self._length) % len(choice)]


class _Reader:
    """Follows every way through a pattern at once, so that the cost is bounded (Thompson, 1968)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._steps = 0

    def ends(self, nodes: Sequence[Node], starts: set[int]) -> set[int]:
        """Return where a match that begins at one of `starts` may end."""
        for kind, value in nodes:
            self._steps += 1 + len(starts)
            if self._steps > _STEPS:
                raise PatternError("the pattern is too much work")
            if not starts:
                break
            starts = self._after(kind, value, starts)
        return starts

    def _after(self, kind: Any, value: Any, starts: set[int]) -> set[int]:
        match kind:
            case _name.LITERAL | _name.NOT_LITERAL | _name.ANY | _name.IN:
                return {
                    at + 1
                    for at in starts
                    if at < len(self._text) and _is_one(self._text[at], kind, value)
                }
            case _name.BRANCH:
                return set().union(*(self.ends(branch, starts) for branch in value[1]))
            case _name.SUBPATTERN:
                return self.ends(value[3], starts)
            case _name.MAX_REPEAT | _name.MIN_REPEAT:
                least, most, nodes = value
                return self._repeated(least, most, nodes, starts)
            case _name.AT:
                return {at for at in starts if self._stands(value, at)}
            case _name.ASSERT | _name.ASSERT_NOT:
                direction, nodes = value
                return self._looked(kind, direction, nodes, starts)
            case _:
                raise PatternError(f"the pattern uses {kind}")

    def _repeated(self, least: int, most: int, nodes: Sequence[Node], starts: set[int]) -> set[int]:
        for _ in range(least):
            before, starts = starts, self.ends(nodes, starts)
            if starts in (before, set()):
                break
        reached, times = set(starts), least
        while starts and times < most:
            starts = self.ends(nodes, starts) - reached
            reached |= starts
            times += 1
        return reached

    def _looked(
        self, kind: Any, direction: int, nodes: Sequence[Node], starts: set[int]
    ) -> set[int]:
        if direction < 0:
            raise PatternError("the pattern looks behind")
        wanted = kind is _name.ASSERT
        return {at for at in starts if bool(self.ends(nodes, {at})) is wanted}

    def _stands(self, where: Any, at: int) -> bool:
        match where:
            case _name.AT_BEGINNING | _name.AT_BEGINNING_STRING:
                return at == 0
            case _name.AT_END | _name.AT_END_STRING:
                return at == len(self._text)
            case _name.AT_BOUNDARY | _name.AT_NON_BOUNDARY:
                before = at > 0 and self._text[at - 1] in _WORDLY
                after = at < len(self._text) and self._text[at] in _WORDLY
                return (before != after) is (where is _name.AT_BOUNDARY)
            case _:
                raise PatternError(f"the pattern uses {where}")


def _letters(kind: Any, value: Any) -> str:
    """Return letters to choose from, of which there is one at least."""
    told = "".join(_first(*entry) for entry in value) if kind is _name.IN else ""
    for letters in (_LIKED, told):
        if fitting := "".join(letter for letter in letters if _is_one(letter, kind, value)):
            return fitting
    raise PatternError("the pattern asks for letters that are not known here")


def _is_one(letter: str, kind: Any, value: Any) -> bool:
    match kind:
        case _name.LITERAL:
            return bool(ord(letter) == value)
        case _name.NOT_LITERAL:
            return bool(ord(letter) != value)
        case _name.ANY:
            return letter != "\n"
        case _:
            negated = value[0][0] is _name.NEGATE
            return any(_in_entry(letter, *entry) for entry in value) is not negated


def _in_entry(letter: str, kind: Any, value: Any) -> bool:
    match kind:
        case _name.LITERAL:
            return bool(ord(letter) == value)
        case _name.RANGE:
            return bool(value[0] <= ord(letter) <= value[1])
        case _name.CATEGORY if value in _OPPOSITES:
            return letter not in _CLASSES[_OPPOSITES[value]]
        case _name.CATEGORY:
            return letter in _CLASSES[value]
        case _:
            return False


def _first(kind: Any, value: Any) -> str:
    match kind:
        case _name.LITERAL:
            return chr(value)
        case _name.RANGE:
            return chr(value[0])
        case _name.CATEGORY:
            return _CLASSES.get(value, "")
        case _:
            return ""

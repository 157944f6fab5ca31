"""Rejoins surrogate pairs split over two pieces, replaces lone halves, drops NUL."""

from __future__ import annotations

import math
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
#: what JSON, SQLite and every client can hold of whole numbers
_LARGEST = (1 << 63) - 1
#: values within values; protobuf's readers stop at 100
_DEEPEST = 32
#: characters of a word such as a finish reason
_LONGEST_WORD = 64


class Letters:
    """Mend the pieces of one text.

    A letter outside the basic plane may come as a surrogate in one piece and its partner in the
    next; UTF-8, and with it SQLite and protobuf, refuses either alone. The first half waits for
    the second; one that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._half = ""

    def push(self, piece: str) -> str:
        """Return what can be said after this piece; possibly nothing."""
        text = self._half + piece if self._half else piece
        self._half = ""
        if "\0" in text:
            text = text.replace("\0", "")
        if _HALF.search(text) is None:
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            self._half = text[-1]
            text = text[:-1]
        return whole(text)

    def close(self) -> str:
        """Return what must stand for a half whose partner never came."""
        lost, self._half = self._half, ""
        return "\ufffd" if lost else ""


def whole(text: str) -> str:
    """Join surrogate pairs into letters and put U+FFFD for every half that is alone."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def fit(text: str) -> str:
    """Return a whole text as it can be stored."""
    return whole(text.replace("\0", ""))


def word(text: str) -> str:
    """Return a word that an upstream says in passing, a finish reason say; cut where it is long."""
    return fit(text)[:_LONGEST_WORD]


def fit_value(value: Any, *, depth: int = _DEEPEST) -> Any:
    """Return JSON's values as they can be stored and told on every wire.

    A number that is none, or too large, and what lies deeper than `depth` become None.
    """
    match value:
        case str():
            return fit(value)
        case bool() | None:
            return value
        case int():
            return value if abs(value) <= _LARGEST else None
        case float():
            return value if math.isfinite(value) else None
        case dict() if depth:
            return {fit(str(k)): fit_value(v, depth=depth - 1) for k, v in value.items()}
        case list() if depth:
            return [fit_value(one, depth=depth - 1) for one in value]
        case _:
            return None

"""Make text that arrives in pieces fit to be stored: pairs rejoined, lone halves and NUL gone."""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")


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

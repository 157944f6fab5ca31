"""Cuts an answer into the pieces that its response's events tell, the same whoever cuts it.

The rule is part of the protocol: numbers of events are given back to resume, by clients that read
another server's, an older one's or a live stream. It is never changed for what is stored.
"""

from __future__ import annotations

import re

#: Characters of a piece at most.
LONGEST = 32
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0"
#: Scripts from here on are written without spaces, or nearly so: each character ends a piece.
_FIRST_WIDE = "\u0e00"
_WIDE = rf"{_FIRST_WIDE}-\U0010ffff"
_RUN = re.compile(
    rf"[{_SPACE}]+[^{_SPACE}{_WIDE}]*[{_WIDE}]?|[^{_SPACE}{_WIDE}]+[{_WIDE}]?|[{_WIDE}]"
)


class Words:
    """One part's text as it grows, in pieces: what may grow yet is held back.

    A piece ends before a space that follows other characters, behind one of a script without
    spaces, and at `LONGEST`. That depends on nothing behind it but one character, so pieces are the
    same however the text came.
    """

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> list[str]:
        """Return the pieces that are complete now."""
        if not text:
            return []
        runs = _RUN.findall(self._held + text)
        self._held = "" if runs[-1][-1] >= _FIRST_WIDE else runs.pop()
        whole = [piece for run in runs for piece in _short(run)]
        while len(self._held) >= LONGEST:
            whole.append(self._held[:LONGEST])
            self._held = self._held[LONGEST:]
        return whole

    def close(self) -> list[str]:
        """Return what was held back: nothing more comes."""
        held, self._held = self._held, ""
        return [held] if held else []


def _short(run: str) -> list[str]:
    return [run[at : at + LONGEST] for at in range(0, len(run), LONGEST)]

"""An answer that grows: text is only ever appended, and is read from any position."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right


class GrowingAnswer:
    """The text of an answer so far, in the pieces in which it came; positions are in characters."""

    def __init__(self) -> None:
        self.length = 0
        #: loop time of the first text
        self.first: float | None = None
        self._pieces: list[str] = []
        self._ends: list[int] = []
        self._kept = 0

    def append(self, text: str) -> None:
        """Let the answer grow."""
        if self.first is None:
            self.first = asyncio.get_running_loop().time()
        self.length += len(text)
        self._pieces.append(text)
        self._ends.append(self.length)

    def text(self, after: int = 0, before: int | None = None) -> str:
        """Return the answer from one position, or up to another; its cost is what it returns."""
        end = self.length if before is None else before
        if after >= end:
            return ""
        first, last = bisect_right(self._ends, after), bisect_left(self._ends, end)
        start = self._ends[first - 1] if first else 0
        pieces = self._pieces[first : last + 1]
        joined = "".join(pieces) if len(pieces) > 1 else pieces[0]
        return joined[after - start : end - start]

    def unkept(self) -> tuple[int, str]:
        """Return where the text begins that no checkpoint has yet, and that text."""
        return self._kept, self.text(self._kept)

    def kept(self, end: int) -> None:
        """Note that a checkpoint holds all before this position."""
        self._kept = end

"""An answer that grows: a row that is only ever appended to, and is read from any position."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from storage.model import Content
from storage.parts import MARK, Kind, Mark, Part, content_of, row_of

#: Where characters of one part end, what they are, of which part (None: of the text that an answer
#: begins with), and its place among the parts.
Stretch = tuple[int, str, Part | None, int]


class GrowingAnswer:
    """An answer so far, in the pieces in which it came; see `storage.parts` for its positions."""

    def __init__(self) -> None:
        self.length = 0
        #: loop time of the first piece
        self.first: float | None = None
        self._pieces: list[str] = []
        self._ends: list[int] = []
        self._parts: list[Part] = []
        self._at: list[int] = []
        self._kept = 0

    @classmethod
    def of(cls, content: Content) -> GrowingAnswer:
        """Return an answer that has grown."""
        answer = cls()
        row, marks = row_of(content)
        answer._parts = [mark.part for mark in marks]
        answer._at = [mark.position for mark in marks]
        if row:
            answer._put(row)
        return answer

    def append(self, text: str) -> None:
        """Let the part that was begun last grow."""
        if self.first is None:
            self.first = asyncio.get_running_loop().time()
        self._put(text)

    def begin(self, part: Part) -> None:
        """Begin a part; an answer that begins with text has no mark for it."""
        if part.kind is Kind.TEXT and not self.length:
            return
        self._parts.append(part)
        self._at.append(self.length)
        self.append(MARK)

    def row(self, after: int = 0, before: int | None = None) -> str:
        """Return the row from one position, or up to another; its cost is what it returns."""
        end = self.length if before is None else before
        if after >= end:
            return ""
        first, last = bisect_right(self._ends, after), bisect_left(self._ends, end)
        start = self._ends[first - 1] if first else 0
        pieces = self._pieces[first : last + 1]
        joined = "".join(pieces) if len(pieces) > 1 else pieces[0]
        return joined[after - start : end - start]

    def marks(self, after: int = 0) -> tuple[Mark, ...]:
        """Return the marks from a position on."""
        first = bisect_left(self._at, after)
        return tuple(map(Mark, self._at[first:], self._parts[first:]))

    def content(self) -> Content:
        """Return what was said so far."""
        return content_of(self.row(), self.marks())

    def kept_content(self) -> Content:
        """Return what a checkpoint has of it."""
        row, marks = self.piece(0, self._kept)
        return content_of(row, marks)

    def stretch(self, after: int, most: int) -> Stretch:
        """Return what stands behind a position that has something behind it: of one part, and at
        most `most` positions. It is the same whenever it is asked for, but for how far it goes.
        """
        if not self._at:
            end = min(self.length, after + most)
            return end, self.row(after, end), None, 0
        place = bisect_right(self._at, after)
        end = min(self._at[place] if place < len(self._at) else self.length, after + most)
        if not place:
            return end, self.row(after, end), None, 0
        begins = after + (self._at[place - 1] == after)
        index = place - (self._at[0] == 0)
        return end, self.row(begins, end), self._parts[place - 1], index

    def piece(self, after: int, most: int) -> tuple[str, tuple[Mark, ...]]:
        """Return the row behind a position, at most so much of it, and the marks in that."""
        end = min(self.length, after + most)
        return self.row(after, end), tuple(one for one in self.marks(after) if one.position < end)

    def absorb(self, position: int, text: str, marks: Iterable[Mark]) -> None:
        """Let the answer grow by what is new in a piece of its row, which comes from elsewhere."""
        for mark in marks:
            if mark.position >= self.length:
                self._parts.append(mark.part)
                self._at.append(mark.position)
        if new := text[self.length - position :]:
            self.append(new)

    def unkept(self) -> tuple[int, str, tuple[Mark, ...]]:
        """Return where the row begins that no checkpoint has yet, that row, and its marks."""
        return self._kept, self.row(self._kept), self.marks(self._kept)

    def kept(self, end: int) -> None:
        """Note that a checkpoint holds all before this position."""
        self._kept = end

    def _put(self, piece: str) -> None:
        self.length += len(piece)
        self._pieces.append(piece)
        self._ends.append(self.length)

"""A turn while it is live: one growing answer; every follower is a position in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, overload

from server.live.answer import GrowingAnswer, Stretch
from server.live.notify import Listeners
from server.live.waiting import Beside, QueueChanged, nothing
from server.upstream.port import Finish
from storage.model import Content, Status, Turn
from storage.parts import Kind, Mark, Part, length_of
from storage.port import Piece

#: Positions of one delta: what one who reads nothing makes us hold.
LARGEST = 1 << 18


@dataclass(frozen=True, slots=True)
class Started:
    """First for every follower; `cursor` is where it begins to read."""

    turn: Turn
    cursor: int


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of one part of an answer; `cursor` is the position after it.

    `text` is of a part of text, `delta` of any other. `part` is None in the text that an answer
    begins with, else what the piece is of, and `index` counts the parts.
    """

    conversation_id: str
    turn_id: str
    cursor: int
    text: str
    part: Part | None = None
    index: int = 0
    delta: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """Last event of every turn, whatever its status."""

    turn: Turn
    cursor: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How many tokens of a prompt the upstream has read, of those that it has to.

    It is no position in the answer, is told before that begins, to who asks for it, and kept
    nowhere.
    """

    conversation_id: str
    turn_id: str
    read: int
    total: int


TurnEvent = Started | Delta | Progress | Ended


def always() -> bool:
    """Let everything be told at once."""
    return True


class LiveTurn:
    """A turn, its answer so far, and who follows it. They wait for it to grow past their cursor."""

    def __init__(self, owner: str, turn: Turn, tells: Callable[[], bool] = always) -> None:
        """`tells` says whether what is new of the answer may be told now; `nudge` where it may
        again. An end is told always.
        """
        self.owner = owner
        self.turn = turn
        self._tells = tells
        self.stopped_as: Status | None = None
        #: whether the store has it
        self.is_kept = True
        #: whether who watches all that is the owner's hears of it
        self.is_told = True
        self.followers = 0
        #: loop time of the beginning
        self.began = asyncio.get_running_loop().time()
        self._reader: asyncio.Task[Finish] | None = None
        self._answer = GrowingAnswer()
        self._growth = Listeners()
        #: how far the prompt was read when that was told last
        self.progress: Progress | None = None
        #: the newest delta, where it begins, and how long the answer was then
        self._newest: Delta | None = None
        self._newest_from = self._newest_of = 0
        self._ended: Ended | None = None

    @property
    def length(self) -> int:
        """How many positions the answer has so far."""
        return self._answer.length

    @property
    def first(self) -> float | None:
        """Loop time of the first text."""
        return self._answer.first

    @property
    def over(self) -> bool:
        """Whether its end is told."""
        return self._ended is not None

    def row(self, after: int = 0) -> str:
        """Return the answer's row so far from a cursor; its cost is what it returns."""
        return self._answer.row(after)

    def content(self) -> Content:
        """Return the answer so far."""
        return self._answer.content()

    def append(self, text: str) -> None:
        """Let the answer grow and wake whoever waits for it."""
        self._answer.append(text)
        self._growth.wake()

    def absorb(self, position: int, text: str, marks: Iterable[Mark]) -> None:
        """Let the answer grow by what is new in a piece of its row."""
        self._answer.absorb(position, text, marks)
        self._growth.wake()

    def reads(self, read: int, total: int) -> None:
        """Note how many tokens of the prompt were read, of how many."""
        self.progress = Progress(self.turn.conversation_id, self.turn.id, read, total)
        self._growth.wake()

    def begin(self, part: Part) -> None:
        """Begin a part of the answer."""
        self._answer.begin(part)
        self._growth.wake()

    def read(self, answer: Coroutine[Any, Any, Finish]) -> asyncio.Task[Finish]:
        """Start the task that reads the upstream."""
        self._reader = asyncio.create_task(answer, name=f"{self.turn.id} reader")
        if self.stopped_as is not None:  # stopped before it began
            self._reader.cancel()
        return self._reader

    def stop(self, status: Status) -> None:
        """Cancel the reading, and that alone: whoever records the outcome goes on."""
        if self.stopped_as is None:
            self.stopped_as = status
            if self._reader is not None:
                self._reader.cancel()

    def end(self, turn: Turn) -> None:
        """Announce an end that the store has kept."""
        self.turn = turn
        length = length_of(turn.content)
        if length != self._answer.length:  # somebody else ended it, with what is known of it there
            self._answer = GrowingAnswer.of(turn.content)
        self._ended = Ended(turn, length)
        self._growth.wake()

    async def ended(self) -> Turn:
        """Wait until the end is kept, and return the turn as it was kept."""
        with self.followed():
            while self._ended is None:
                await self._growth.listen()
        return self._ended.turn

    def snapshot(self) -> Turn:
        """Return the turn with its answer so far."""
        return self.turn if self._ended else self.turn.saying(self.content())

    def told(self) -> Turn:
        """Return the turn with what may be told of its answer so far."""
        if self._ended or self._tells():
            return self.snapshot()
        return self.turn.saying(self._answer.kept_content())

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Have one follower more in this context."""
        self.followers += 1
        try:
            yield
        finally:
            self.followers -= 1

    def unkept(self) -> Piece | None:
        """Return what no checkpoint has yet; `kept` says that one has."""
        if self._ended or not self.is_kept:
            return None
        position, text, marks = self._answer.unkept()
        return Piece(self.owner, self.turn.id, position, text, marks) if text else None

    def kept(self, piece: Piece) -> None:
        """Note that a checkpoint holds this piece."""
        self._answer.kept(piece.position + len(piece.text))

    def nudge(self) -> None:
        """Wake whoever waits, to look for what there may be beside."""
        self._growth.wake()

    @overload
    def follow(self, after: int = 0) -> AsyncGenerator[TurnEvent, None]: ...

    @overload
    def follow(
        self, after: int, beside: Beside, *, progress: bool = False
    ) -> AsyncGenerator[TurnEvent | QueueChanged, None]: ...

    async def follow(
        self, after: int = 0, beside: Beside = nothing, *, progress: bool = False
    ) -> AsyncGenerator[TurnEvent | QueueChanged, None]:
        """Yield the answer from a cursor as it grows, then its end; and what there is beside.

        With `progress` also how far the prompt is read, for as long as there is no answer.
        """
        cursor = after
        told: Progress | None = None
        yield Started(started(self.turn), cursor)
        while True:
            if (change := beside()) is not None:
                yield change
            elif cursor < self._answer.length and (self._ended is not None or self._tells()):
                newest = self.delta(cursor)
                cursor = newest.cursor
                yield newest
            elif self._ended is not None:
                yield self._ended
                return
            elif progress and (news := self._progress_after(told)) is not None:
                told = news
                yield news
            else:
                await self._growth.listen()

    async def pieces(self, after: int) -> AsyncGenerator[Piece | Progress, None]:
        """Yield the row from a position as it grows and may be told, to its end, and progress."""
        position = after
        told: Progress | None = None
        while True:
            if position < self._answer.length and (self._ended is not None or self._tells()):
                text, marks = self._answer.piece(position, LARGEST)
                yield Piece(self.owner, self.turn.id, position, text, marks)
                position += len(text)
            elif self._ended is not None:
                return
            elif (news := self._progress_after(told)) is not None:
                told = news
                yield news
            else:
                await self._growth.listen()

    def _progress_after(self, told: Progress | None) -> Progress | None:
        """Return how far the prompt is read, where that is news and there is no answer yet."""
        news = self.progress
        return news if news != told and not self._answer.length and self._tells() else None

    def delta(self, after: int) -> Delta:
        """Return what stands behind a cursor that has something behind it.

        Followers that keep up stand at the same cursor: they share one event.
        """
        newest, length = self._newest, self._answer.length
        if newest is None or self._newest_from != after or self._newest_of != length:
            newest = self._newest = _told(self.turn, self._answer.stretch(after, LARGEST))
            self._newest_from, self._newest_of = after, length
        return newest


def _told(turn: Turn, of: Stretch) -> Delta:
    """Return a stretch of an answer as its followers are told it."""
    end, said, part, index = of
    if part is None or part.kind is Kind.TEXT:
        return Delta(turn.conversation_id, turn.id, end, said, part, index)
    return Delta(turn.conversation_id, turn.id, end, "", part, index, said)


def started(turn: Turn) -> Turn:
    """Return a turn as it was when it started, which is what every `Started` shows."""
    return replace(
        turn,
        status=Status.RUNNING,
        answer_id=None,
        answer="",
        parts=None,
        finish_reason=None,
        usage=None,
        error=None,
        ended_at=None,
        options={},
    )


async def replay(turn: Turn, after: int = 0) -> AsyncGenerator[TurnEvent, None]:
    """Yield the events of a turn that has ended, from a cursor."""
    yield Started(started(turn), after)
    answer, cursor = GrowingAnswer.of(turn.content), after
    while cursor < answer.length:
        piece = _told(turn, answer.stretch(cursor, LARGEST))
        cursor = piece.cursor
        yield piece
    yield Ended(turn, answer.length)

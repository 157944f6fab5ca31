"""Who is live, kept in this process's memory: for one node, which runs all turns itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from server.live.news import Moved, Note
from server.live.notify import Notifier
from server.live.port import Place
from server.live.turn import LiveTurn
from server.live.turn_queue import TurnQueue
from server.live.waiting import Line, Waiting
from storage.model import Turn


class MemoryLiveTurns:
    """Implements LiveTurns; ends with the process, as do the tasks that write the turns."""

    def __init__(self, most_waiting: int) -> None:
        """`most_waiting`: how many may wait for one place."""
        self._turns: dict[tuple[str, str], LiveTurn] = {}
        self._in_place: dict[Place, LiveTurn] = {}
        self._lingering: dict[tuple[str, str], LiveTurn] = {}
        self._queue = TurnQueue(most_waiting, self._line_changed)
        self._notifier = Notifier()
        self._hearers: list[Callable[[str, Note], None]] = []

    def admit(self, owner: str, turn: Turn) -> LiveTurn:
        return self._admit(LiveTurn(owner, turn))

    def forget(self, live: LiveTurn) -> None:
        del self._turns[live.owner, live.turn.id]
        if not live.turn.free:
            del self._in_place[live.owner, live.turn.conversation_id]

    def linger(self, live: LiveTurn) -> None:
        self._lingering[live.owner, live.turn.id] = live

    def release(self, live: LiveTurn) -> None:
        self._lingering.pop((live.owner, live.turn.id), None)

    def find(self, owner: str, turn_id: str) -> LiveTurn | None:
        key = owner, turn_id
        return self._turns.get(key) or self._lingering.get(key)

    async def elsewhere(self, owner: str, turn: Turn) -> LiveTurn | None:
        return self.find(owner, turn.id)  # it may have begun meanwhile

    def in_conversation(self, owner: str, conversation_id: str) -> LiveTurn | None:
        return self._in_place.get((owner, conversation_id))

    async def running_elsewhere(self, owner: str) -> Sequence[str]:
        return ()

    async def elsewhere_in(self, place: Place) -> Sequence[str]:
        return ()

    def running(self) -> Collection[LiveTurn]:
        return self._turns.values()

    @property
    def followers(self) -> int:
        return sum(live.followers for live in self._turns.values())

    async def take(self, place: Place, *, first: bool = False, asks: Waiting | None = None) -> None:
        await self._queue.take(place, first=first, asks=asks)

    def give_back(self, place: Place) -> None:
        self._queue.give_back(place)

    async def take_again(
        self, place: Place, *, first: bool = False, asks: Waiting | None = None
    ) -> None:
        await self._queue.take_again(place, first=first, asks=asks)

    def waited_as(self, place: Place) -> str | None:
        return None

    def taken(self, place: Place) -> bool:
        return self._queue.taken(place)

    def taken_by(self, owner: str | None = None) -> int:
        return len(self._queue) if owner is None else self._queue.of(owner)

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    def line(self, place: Place) -> Line:
        return self._queue.line(place)

    async def withdraw(self, place: Place, waiting_id: str) -> bool:
        return self._queue.withdraw(place, waiting_id)

    def refuse_all(self, error: Exception) -> None:
        self._queue.refuse_all(error)

    def listen(self, place: Place) -> asyncio.Future[None]:
        return self._notifier.listen(place)

    def leave(self, place: Place, heard: asyncio.Future[None]) -> None:
        self._notifier.leave(place, heard)

    def listening(self, place: Place) -> int:
        return self._notifier.listening(place)

    def notify(self, place: Place) -> None:
        self._notifier.notify(place)

    def notify_all(self) -> None:
        self._notifier.notify_all()

    def note(self, owner: str, what: Note) -> None:
        for hear in self._hearers:
            hear(owner, what)

    def hear(
        self,
        heard: Callable[[str, Note], None],
        watched: Callable[[str], bool] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        self._hearers.append(heard)

    def _admit(self, live: LiveTurn) -> LiveTurn:
        self._turns[live.owner, live.turn.id] = live
        if not live.turn.free:
            self._in_place[live.owner, live.turn.conversation_id] = live
        return live

    def _line_changed(self, place: Place) -> None:
        self._notifier.notify(place)
        if (live := self._in_place.get(place)) is not None:
            live.nudge()
        owner, conversation_id = place
        self.note(owner, Moved(conversation_id))

"""Who is live, where several nodes are: those of this process in memory, all others by mirrors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from server.live.memory import MemoryLiveTurns
from server.live.news import Note
from server.live.port import Place
from server.live.turn import LiveTurn
from server.live.waiting import Line, Waiting
from server.nodes.lines import CommonLines
from server.nodes.membership import Membership
from server.nodes.mirror import Mirrors
from server.nodes.notes import OVER, Notes
from server.nodes.port import Bell, Members
from storage.model import Status, Turn

#: What is rung: that a place has news, that its line has changed, that one who waits there is to be
#: sent away, that a turn is to be stopped.
PLACE, LINE, WITHDRAW, STOP = "place", "line", "withdraw", "stop"
#: And that keys were made or revoked, by whoever does that.
KEYS = "keys"


class NodeLiveTurns(MemoryLiveTurns):
    """Implements LiveTurns. What happens here is rung for the others, and theirs is heard."""

    def __init__(
        self,
        most_waiting: int,
        members: Members,
        membership: Membership,
        mirrors: Mirrors,
        bell: Bell,
        notes: Notes,
    ) -> None:
        super().__init__(most_waiting)
        self._membership = membership
        self._mirrors = mirrors
        self._bell = bell
        self._notes = notes
        self._members = members
        self.lines = CommonLines(
            members, lambda place: bell.ring(LINE, *place), self._common_line_changed
        )
        #: who has a place, and is known to others as one who waited for it
        self._waited: dict[Place, str] = {}
        self._watched: Callable[[str], bool] = lambda _: False
        self._missed: Callable[[], None] = lambda: None
        mirrors.stopped = partial(bell.ring, STOP)
        self.keys_changed: Callable[[], object] = lambda: None

    def admit(self, owner: str, turn: Turn) -> LiveTurn:
        """Make a turn live, which is told for as long as it is known to be ours.

        One that is not kept is nobody else's to end.
        """
        ours = partial(self._membership.held, self._membership.node)
        live = LiveTurn(owner, turn, lambda: not live.is_kept or ours())
        return self._admit(live)

    async def elsewhere(self, owner: str, turn: Turn) -> LiveTurn | None:
        return self.find(owner, turn.id) or self._mirrors.of(owner, turn)

    async def running_elsewhere(self, owner: str) -> Sequence[str]:
        return await self._members.running_elsewhere(owner)

    async def elsewhere_in(self, place: Place) -> Sequence[str]:
        return await self._members.running_in(*place)

    def hear(
        self,
        heard: Callable[[str, Note], None],
        watched: Callable[[str], bool] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        """Of other nodes' notes those alone are heard, and read, whose owner is watched here."""
        super().hear(heard, watched, missed)
        self._watched = watched or self._watched
        self._missed = missed or self._missed

    async def take(self, place: Place, *, first: bool = False, asks: Waiting | None = None) -> None:
        if asks is None or not self.taken(place):
            await super().take(place, first=first, asks=asks)
            return
        self._queue.refuse_more_than(self.line(place).count)
        await self._wait(super().take(place, first=first, asks=asks), place, asks, urgent=first)

    async def take_again(
        self, place: Place, *, first: bool = False, asks: Waiting | None = None
    ) -> None:
        taking = super().take_again(place, first=first, asks=asks)
        if asks is None:
            await taking
            return
        self._waited.pop(place, None)
        await self._wait(taking, place, asks, urgent=first)

    async def _wait(
        self, taking: Awaitable[None], place: Place, asks: Waiting, *, urgent: bool
    ) -> None:
        """Stand in the line of all nodes while one of ours waits."""
        self.lines.join(place, asks, urgent=urgent)
        try:
            await taking
        except BaseException:
            self.lines.leave(asks.id)
            raise
        try:
            waited = await self.lines.called(asks.id)
        except BaseException:
            self.lines.leave(asks.id)
            super().give_back(place)
            raise
        if waited is not None:
            self._waited[place] = waited

    def waited_as(self, place: Place) -> str | None:
        return self._waited.get(place)

    def give_back(self, place: Place) -> None:
        if (waited := self._waited.pop(place, None)) is not None:
            self.lines.leave(waited)
        super().give_back(place)

    def line(self, place: Place) -> Line:
        return self.lines.line(place) or super().line(place)

    async def withdraw(self, place: Place, waiting_id: str) -> bool:
        """Send away a question that waits; at another node it is told, or reads so."""
        if self.lines.has(waiting_id):
            return await super().withdraw(place, waiting_id)
        if not await self._members.line.withdraw(*place, waiting_id):
            return False
        self._bell.ring(WITHDRAW, *place, waiting_id)
        self._bell.ring(LINE, *place)
        self.lines.read(place)
        return True

    def notify(self, place: Place) -> None:
        """Wake all who listen there; who waited to begin a turn has begun it."""
        if (waited := self._waited.pop(place, None)) is not None:
            self.lines.begun(waited)
        super().notify(place)
        self._bell.ring(PLACE, *place)

    def note(self, owner: str, what: Note) -> None:
        super().note(owner, what)
        if (told := self._notes.told(what)) is not None:
            word, name, *more = told
            self._bell.ring(word, name, owner, *more)

    def hear_others(self, told: Sequence[Any]) -> None:
        """Hear what another node has rung."""
        match told:
            case [word] if word == KEYS:
                self.keys_changed()
            case [word, str(owner), str(name)] if word == PLACE:
                super().notify((owner, name))
            case [word, str(owner), str(name)] if word == LINE:
                self.lines.read((owner, name))
            case [word, str(owner), str(name), str(waiting_id)] if word == WITHDRAW:
                self._queue.withdraw((owner, name), waiting_id)
            case [word, str(owner), str(name)] if word == STOP:
                self.stop(owner, name)
            case [str(word), str(name), str(owner), *more]:
                if word == OVER:
                    self._mirrors.look_at(owner, name)
                if self._watched(owner):
                    note = partial(super().note, owner)
                    self._notes.heard(word, name, owner, note, more[0] if more else None)

    async def look_at_lines(self) -> None:
        """See what became of who waits, here or elsewhere. Raises UnavailableError."""
        for place, waiting_id in await self.lines.look():
            self._queue.withdraw(place, waiting_id)
        if not self._bell.hears:
            await self.lines.read_all()

    def have_missed(self) -> None:
        """Have everybody look for what other nodes may have rung while nothing was heard."""
        self.notify_all()
        self._missed()

    def stop(self, owner: str, turn_id: str) -> None:
        """Stop a turn of ours that another node was asked to cancel."""
        if (live := self.find(owner, turn_id)) is not None:
            live.stop(Status.CANCELLED)

    def give_up(self) -> None:
        """Let all turns end that were begun under a name that is declared dead."""
        for live in list(self.running()):
            if live.is_kept:
                live.stop(Status.INTERRUPTED)

    def _line_changed(self, place: Place) -> None:
        """Tell of our own line where it is the whole one."""
        if self.lines.line(place) is None:
            super()._line_changed(place)

    def _common_line_changed(self, place: Place) -> None:
        super()._line_changed(place)
        self._mirrors.nudge(place)

    def may_tell_again(self) -> None:
        """Wake those who follow our turns."""
        for live in list(self.running()):
            live.nudge()

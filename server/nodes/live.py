"""Who is live, where several nodes are: those of this process in memory, all others by mirrors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from server.live.memory import MemoryLiveTurns
from server.live.news import Note
from server.live.port import Place
from server.live.turn import LiveTurn
from server.nodes.membership import Membership
from server.nodes.mirror import Mirrors
from server.nodes.notes import OVER, Notes
from server.nodes.port import Bell, Members
from storage.model import Status, Turn

#: What is rung: that a place has news, that somebody waits for it, that a turn is to be stopped.
PLACE, WAY, STOP = "place", "way", "stop"
#: Seconds that one of another node has before our next in line: its turn begins in fewer.
HEAD_START = 0.1


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
        #: places of ours that somebody at another node waits for
        self._asked_way: set[Place] = set()
        self._watched: Callable[[str], bool] = lambda _: False
        self._missed: Callable[[], None] = lambda: None
        mirrors.stopped = partial(bell.ring, STOP)

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

    def ask_way(self, place: Place) -> None:
        self._bell.ring(WAY, *place)

    async def give_way(self, place: Place) -> None:
        if place in self._asked_way:
            self._asked_way.discard(place)
            await asyncio.sleep(HEAD_START)

    def give_back(self, place: Place) -> None:
        super().give_back(place)
        if not self.taken(place):
            self._asked_way.discard(place)

    def notify(self, place: Place) -> None:
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
            case [word, str(owner), str(name)] if word == PLACE:
                super().notify((owner, name))
            case [word, str(owner), str(name)] if word == WAY:
                if self.taken((owner, name)):
                    self._asked_way.add((owner, name))
            case [word, str(owner), str(name)] if word == STOP:
                self.stop(owner, name)
            case [str(word), str(name), str(owner), *more]:
                if word == OVER:
                    self._mirrors.look_at(owner, name)
                if self._watched(owner):
                    note = partial(super().note, owner)
                    self._notes.heard(word, name, owner, note, more[0] if more else None)

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

    def may_tell_again(self) -> None:
        """Wake those who follow our turns."""
        for live in list(self.running()):
            live.nudge()

"""What has to be free before a turn or a call begins: tokens, turns that may run, a place."""

from __future__ import annotations

from server.config.limits import TurnLimits
from server.core.access.concurrency import Room
from server.core.access.token_budget import TokenBudget
from server.core.errors import RateLimitedError
from server.live.port import LiveTurns, Place


class Capacity:
    """Turns and calls share the room; a turn keeps its place in it for the next in its queue."""

    def __init__(self, token_budget: TokenBudget, room: Room, limits: TurnLimits) -> None:
        self.token_budget = token_budget
        #: of turns and calls together
        self.room = room
        self._limits = limits
        #: whose turn has a place in the room, or has left it to the next in line
        self._roomed: set[Place] = set()

    def refuse_a_crowd(self, place: Place, live: LiveTurns) -> None:
        """Raise RateLimitedError for one turn more than may run.

        One that waits will take over another's place, and is none more.
        """
        if live.taken(place):
            return
        limits, owner = self._limits, place[0]
        if live.taken_by() >= limits.running:
            raise RateLimitedError(f"{limits.running} turns are running; no more may at once.")
        if (most := limits.running_per_key) is None:
            return
        if live.taken_by(owner) >= most:
            raise RateLimitedError(f"{most} turns of this key are running; no more may at once.")

    def make_room(self, place: Place) -> None:
        """Have a place in the room for a turn: the one before it left its own, or a new one.

        Only where a turn begins: a deletion has the conversation to itself too, and needs no room.
        Raises CrowdedError.
        """
        if place not in self._roomed:
            self.room.enter(place[0])
            self._roomed.add(place)

    def leave_room(self, place: Place) -> None:
        """Give back the place of a turn that has ended, which no other takes over."""
        if place in self._roomed:
            self._roomed.remove(place)
            self.room.leave(place[0])

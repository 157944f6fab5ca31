"""What another node has ahead of a turn: waited for, interrupted, or a reason to refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from server.core.errors import DrainingError
from server.core.turns.questions import IfBusy
from server.live.background import Background
from server.live.port import LiveTurns, Place
from server.live.turn import LiveTurn
from storage.model import Status, Turn
from storage.port import BusyError, Claim, ClaimedError, NotFoundError, Store

#: Seconds until a conversation is looked at again that was busy and is not when it is looked at, or
#: where others come first.
LOOK = 0.1
#: How often a key is looked up again that another node claimed meanwhile.
CLAIMED_TRIES = 5


async def joined(begin: Callable[[], Awaitable[Turn]]) -> Turn:
    """Return the turn of a claim, though another node claims it while we begin one."""
    for _ in range(CLAIMED_TRIES):
        with suppress(ClaimedError):
            return await begin()
    return await begin()


class AheadError(BusyError):
    """A turn of another node comes first in the conversation; the place in ours is kept."""

    def __init__(self, live: LiveTurn | None, claim: Claim | None = None) -> None:
        super().__init__("Another turn of this conversation is running.")
        #: None where it is gone again, or is yet to begin
        self.live = live
        self.claim = claim


class Ahead:
    """The turns at other nodes that somebody here waits for, by place."""

    def __init__(self, store: Store, live: LiveTurns) -> None:
        self._store = store
        self._live = live
        self._turns: dict[Place, LiveTurn] = {}
        self._background = Background()
        self._leaving = asyncio.Event()

    async def found(
        self, place: Place, busy: BusyError, claim: Claim | None = None, *, free: bool = False
    ) -> AheadError:
        """Return what is ahead in a place, that is elsewhere; with `free`, what runs beside too.

        Raises BusyError where it is not elsewhere.
        """
        turn = await self._running(place, free=free)
        if turn is None:
            return AheadError(None, claim)
        live = await self._live.elsewhere(place[0], turn)
        if live is None or live.over:  # its end is told, and not kept yet
            raise busy
        return AheadError(live, claim)

    async def refuse(self, owner: str, ahead: AheadError, if_busy: IfBusy) -> None:
        """Raise ClaimedError where that is what was asked for, or AheadError where nobody waits."""
        if ahead.claim is not None and await self._store.claimed(owner, ahead.claim) is not None:
            raise ClaimedError("Another turn was begun with this idempotency key.")
        if if_busy is IfBusy.REJECT:
            raise ahead

    def stand_in(
        self, place: Place, ahead: AheadError, if_busy: IfBusy, over: Callable[[], None]
    ) -> None:
        """Have a place for what is ahead of it, and call `over` when it may be free."""

        async def stand() -> None:
            try:
                with suppress(DrainingError):
                    await self._wait(place, ahead, if_busy)
            finally:
                over()

        self._background.begin(stand())

    def stop(self, place: Place) -> None:
        """Interrupt what is waited for in a place."""
        if (live := self._turns.get(place)) is not None:
            live.stop(Status.CANCELLED)

    async def delete(self, place: Place) -> None:
        """Delete a conversation whose place is ours, when what runs in it beside, or at another
        node, was stopped and has ended.
        """
        while True:
            beside = [
                live
                for live in self._live.running()
                if (live.owner, live.turn.conversation_id) == place and live.is_kept
            ]
            for live in beside:
                live.stop(Status.CANCELLED)
            for live in beside:
                await live.ended()
            try:
                await self._store.delete(*place)
                return
            except BusyError as busy:
                if not beside:
                    ahead = await self.found(place, busy, free=True)
                    await self._wait(place, ahead, IfBusy.INTERRUPT)

    async def leave(self) -> None:
        """Wait for nothing any more."""
        self._leaving.set()
        await self._background.over()

    async def _wait(self, place: Place, ahead: AheadError, if_busy: IfBusy) -> None:
        """Return when what is ahead has ended, or may have begun. Raises DrainingError."""
        if ahead.live is None:
            heard = self._live.listen(place)
            try:
                await self._until(heard, LOOK)
            finally:
                self._live.leave(place, heard)
            return
        self._turns[place] = ahead.live
        try:
            if if_busy is IfBusy.INTERRUPT:
                ahead.live.stop(Status.CANCELLED)
            await self._until(asyncio.ensure_future(ahead.live.ended()))
        finally:
            del self._turns[place]

    async def _running(self, place: Place, *, free: bool) -> Turn | None:
        """Return the turn that has a place; it need not be the last: branches are begun beside."""
        turn = await self._store.last_turn(*place)
        if turn is None or _in_the_way(turn, free=free):
            return turn
        for turn_id in await self._live.elsewhere_in(place):
            with suppress(NotFoundError):
                if _in_the_way(one := await self._store.turn(place[0], turn_id), free=free):
                    return one
        return None

    async def _until(self, done: asyncio.Future[Any], seconds: float | None = None) -> None:
        waits = done, asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if self._leaving.is_set():
            raise DrainingError("The server is shutting down; ask again in a moment.")


def _in_the_way(turn: Turn, *, free: bool) -> bool:
    return turn.status is Status.RUNNING and (free or not turn.free)

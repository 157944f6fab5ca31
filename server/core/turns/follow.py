"""How turns are followed: one, live or long after, or all of a conversation that are to come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import cast

from server.core import validation
from server.core.ids import check_id
from server.core.mine import Mine
from server.core.observability.request import about
from server.core.turns.questions import OnDisconnect
from server.live.news import WatchEvent
from server.live.pacing import Pacer
from server.live.port import LiveTurns
from server.live.turn import Ended, LiveTurn, TurnEvent, replay
from server.live.waiting import Beside, LineWatch, nothing
from storage.model import Status, Turn
from storage.port import NotFoundError, Store


class Following:
    """Reads turns from where they are: those that are live, and those that the store has."""

    def __init__(self, store: Store, live: LiveTurns) -> None:
        self._store = store
        self._live = live
        self._pacer = Pacer()
        self.mine = Mine(store, live, self._pacer)
        self._closed = False

    @property
    def running(self) -> int:
        """How many turns are being written."""
        return len(self._live.running())

    def follow(
        self,
        owner: str,
        turn_id: str,
        after: int,
        on_leave: OnDisconnect,
        *,
        progress: bool = False,
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield a turn's events from a cursor; see Conversations."""
        events = self._follow(owner, turn_id, after, on_leave, progress=progress)
        return cast("AsyncGenerator[TurnEvent, None]", events)  # there is nothing beside

    async def _follow(
        self,
        owner: str,
        turn_id: str,
        after: int,
        on_leave: OnDisconnect,
        beside: Beside = nothing,
        *,
        progress: bool,
    ) -> AsyncGenerator[WatchEvent, None]:
        validation.cursor(after)
        live = await self._found(owner, turn_id)
        if isinstance(live, Turn):
            about(live)
            async for past in replay(live, after):
                await self._pacer.wait(past)
                yield past
            return
        about(live.turn)
        heard_the_end = False
        try:
            with live.followed():
                async with aclosing(live.follow(after, beside, progress=progress)) as events:
                    async for event in events:
                        await self._pacer.wait(event)
                        heard_the_end = isinstance(event, Ended)
                        yield event
        finally:
            if on_leave is OnDisconnect.CANCEL and not heard_the_end:
                live.stop(Status.CANCELLED)
            if not live.is_kept:
                self._live.release(live)

    async def watch(
        self,
        owner: str,
        conversation_id: str,
        after: tuple[str, int] | None,
        *,
        queue: bool,
        progress: bool,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield the events of a conversation's turns until it is closed; see Conversations."""
        last, turn, cursor = await self._watch_from(owner, conversation_id, after)
        place = owner, conversation_id
        beside = LineWatch(conversation_id, partial(self._live.line, place)) if queue else nothing
        while not self._closed:
            heard = self._live.listen(place)
            try:
                if turn is None and (change := beside()) is not None:
                    yield change
                    continue
                turn = turn or await self._store.next_turn(owner, conversation_id, last)
                if turn is None:
                    await heard
                    continue
            finally:
                self._live.leave(place, heard)
            following = self._follow(
                owner, turn.id, cursor, OnDisconnect.CONTINUE, beside, progress=progress
            )
            async with aclosing(following) as events:
                async for event in events:
                    yield event
            last, turn, cursor = turn.id, None, 0

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        """Stop the writing of an answer and return the turn as it ended."""
        live = await self._found(owner, turn_id)
        if isinstance(live, Turn):
            return live
        about(live.turn)
        live.stop(Status.CANCELLED)
        return await live.ended()

    async def turn(self, owner: str, turn_id: str) -> Turn:
        """Return a turn; a running one with its answer so far."""
        live = await self._found(owner, turn_id)
        return live if isinstance(live, Turn) else live.told()

    async def close(self) -> None:
        """End all watching; no turn begins any more."""
        self._closed = True
        self._live.notify_all()
        await self.mine.close()

    async def _found(self, owner: str, turn_id: str) -> LiveTurn | Turn:
        """Return a turn where it is written, here or elsewhere; one that has ended as it is."""
        validation.known(turn_id, "turn_id")
        if (live := self._live.find(owner, turn_id)) is not None:
            return live
        turn = await self._store.turn(owner, turn_id)
        if turn.status is not Status.RUNNING:
            return turn
        return await self._live.elsewhere(owner, turn) or turn

    async def _watch_from(
        self, owner: str, conversation_id: str, after: tuple[str, int] | None
    ) -> tuple[str | None, Turn | None, int]:
        """Return the last turn seen whole, the one to go on with, and the cursor in it."""
        if after is not None:
            validation.cursor(after[1])
            turn = await self.turn(owner, after[0])
            if turn.conversation_id != conversation_id:
                raise NotFoundError(f"There is no turn {turn.id!r} in this conversation.", "after")
            # Its end too, for whoever has it: the last delta and the end have the same position.
            return None, turn, after[1]
        last = await self._store.last_turn(owner, check_id(conversation_id, "conversation_id"))
        if last is not None and last.status is Status.RUNNING:
            return None, last, 0
        return last.id if last else None, None, 0

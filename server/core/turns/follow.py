"""How turns are followed: one, live or long after, or all of a conversation that are to come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.core import validation
from server.core.ids import check_id
from server.core.observability.request import about
from server.core.turns.questions import OnDisconnect
from server.live.pacing import Pacer
from server.live.port import LiveTurns
from server.live.turn import Ended, LiveTurn, TurnEvent, replay
from storage.model import Status, Turn
from storage.port import NotFoundError, Store


class Following:
    """Reads turns from where they are: those that are live, and those that the store has."""

    def __init__(self, store: Store, live: LiveTurns) -> None:
        self._store = store
        self._live = live
        self._pacer = Pacer()
        self._closed = False

    @property
    def running(self) -> int:
        """How many turns are being written."""
        return len(self._live.running())

    async def follow(
        self, owner: str, turn_id: str, after: int, on_leave: OnDisconnect
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield a turn's events from a cursor; see Conversations."""
        validation.cursor(after)
        validation.known(turn_id, "turn_id")
        live = self._live.find(owner, turn_id)
        if live is None:
            turn = await self._store.turn(owner, turn_id)
            about(turn)
            async for event in replay(turn, after):
                await self._pacer.wait(event)
                yield event
            return
        about(live.turn)
        heard_the_end, live.followers = False, live.followers + 1
        try:
            async with aclosing(live.follow(after)) as events:
                async for event in events:
                    await self._pacer.wait(event)
                    heard_the_end = isinstance(event, Ended)
                    yield event
        finally:
            live.followers -= 1
            if on_leave is OnDisconnect.CANCEL and not heard_the_end:
                live.stop(Status.CANCELLED)
            if not live.is_kept:
                self._live.release(live)

    async def watch(
        self, owner: str, conversation_id: str, after: tuple[str, int] | None
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield the events of a conversation's turns until it is closed; see Conversations."""
        last, turn, cursor = await self._watch_from(owner, conversation_id, after)
        place = owner, conversation_id
        while not self._closed:
            heard = self._live.listen(place)
            try:
                turn = turn or await self._store.next_turn(owner, conversation_id, last)
                if turn is None:
                    await heard
                    continue
            finally:
                self._live.leave(place, heard)
            following = self.follow(owner, turn.id, cursor, OnDisconnect.CONTINUE)
            async with aclosing(following) as events:
                async for event in events:
                    yield event
            last, turn, cursor = turn.id, None, 0

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        """Stop the writing of an answer and return the turn as it ended."""
        live = self._found(owner, turn_id)
        if live is None:
            return await self._store.turn(owner, turn_id)
        about(live.turn)
        live.stop(Status.CANCELLED)
        return await live.ended()

    async def turn(self, owner: str, turn_id: str) -> Turn:
        """Return a turn; a running one with its answer so far."""
        live = self._found(owner, turn_id)
        return live.snapshot() if live else await self._store.turn(owner, turn_id)

    def close(self) -> None:
        """End all watching; no turn begins any more."""
        self._closed = True
        self._live.notify_all()

    def _found(self, owner: str, turn_id: str) -> LiveTurn | None:
        validation.known(turn_id, "turn_id")
        return self._live.find(owner, turn_id)

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

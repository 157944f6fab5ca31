"""How a turn begins: place taken, prompt composed, question kept, answer begun."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from server.core.access.capacity import Capacity
from server.core.errors import DrainingError
from server.core.ids import NEW, check_id
from server.core.prompt.compaction import Compaction
from server.core.turns.ahead import Ahead, AheadError, joined
from server.core.turns.beginnings import Beginnings
from server.core.turns.plan import Plan, Planner, beside
from server.core.turns.questions import (
    Ask,
    IfBusy,
    OnDisconnect,
    Regenerate,
    Wishes,
    check_ask,
    check_regenerate,
    claim_of,
    waiting_of,
)
from server.core.turns.run import Running
from server.live.news import Began
from server.live.port import LiveTurns, Place
from server.live.turn import LiveTurn
from server.live.waiting import Waiting
from server.upstream.port import Upstream
from storage.model import Status, Turn
from storage.port import (
    BusyError,
    Claim,
    ClaimedError,
    IdempotencyMismatchError,
    MovedError,
    Store,
)


class Asking:
    """Begins turns, one at a time in a conversation, in order of arrival."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        live: LiveTurns,
        capacity: Capacity,
        running: Running,
        compaction: Compaction,
    ) -> None:
        self._store = store
        self._planner = planner
        self._live = live
        self._capacity = capacity
        self._running = running
        self._compaction = compaction
        self._ahead = Ahead(store, live)
        self._interrupting: Counter[Place] = Counter()
        self._claimed: dict[tuple[str, str], tuple[Claim, asyncio.Task[Turn]]] = {}
        self._beginning = Beginnings(live)
        self.draining = False

    async def ask(
        self,
        owner: str,
        conversation_id: str,
        question: Ask,
        writer: Upstream | None = None,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
    ) -> Turn:
        """Keep a question, begin its turn, and return at once; `writer` writes this one answer.

        `on_leave` is what becomes of a turn whose asker is cancelled while it begins.
        """
        self.refuse_if_draining()
        question = check_ask(question)
        await self._planner.check(question)
        claim = claim_of(conversation_id, question, self._planner.ids.now())
        if conversation_id in ("", NEW):
            conversation_id = self._planner.ids.new("conv")
        else:
            check_id(conversation_id, "conversation_id")
        if claim is None:
            return await self._begun(owner, conversation_id, question, None, writer, on_leave)
        return await self._claimed_once(owner, conversation_id, question, claim, writer, on_leave)

    async def regenerate(
        self,
        owner: str,
        conversation_id: str,
        again: Regenerate,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
    ) -> Turn:
        """Begin another answer to a question that is kept already."""
        self.refuse_if_draining()
        again = check_regenerate(again)
        await self._planner.check(again)
        await self._store.conversation(owner, conversation_id)
        return await self._in_place(
            (owner, conversation_id),
            again,
            lambda: self._planner.plan_again(owner, conversation_id, again),
            on_leave=on_leave,
        )

    async def say(self, owner: str, conversation_id: str, question: Ask) -> Turn:
        """Begin a turn of which nothing is kept; it ends where nobody follows it any more."""
        self.refuse_if_draining()
        question = check_ask(question)
        return await self._in_place(
            beside(owner, conversation_id, self._planner.ids),
            question,
            lambda: self._planner.plan_beside(owner, conversation_id, question),
            on_leave=OnDisconnect.CANCEL,
            kept=False,
        )

    async def clear(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation, when the turns that run in it are cancelled and have ended."""
        place = owner, conversation_id
        await self._interrupt(place)
        # It is deleted though its caller leaves: only then may others ask there, or look again.
        deleting = asyncio.create_task(self._ahead.delete(place))
        deleting.add_done_callback(lambda _: self._cleared(place))
        await asyncio.shield(deleting)

    async def withdraw(self, owner: str, conversation_id: str, waiting_id: str) -> bool:
        """Take a question back that waits; False where there is none, or it was called."""
        return await self._live.withdraw((owner, conversation_id), waiting_id)

    async def in_line(self, place: Place, work: Callable[[], Awaitable[None]]) -> None:
        """Do something with a conversation while no turn that takes its place runs."""
        self.refuse_if_draining()
        await self._line_up(place)
        try:
            await work()
        finally:
            self._give_back(place)

    async def drain(self, grace: float) -> None:
        """Refuse whoever asks or waits, let those begin that are beginning, and let all end.

        What still runs after `grace` seconds is interrupted.
        """
        self.draining = True
        self._live.refuse_all(_draining())
        await self._ahead.leave()
        await self._beginning.over()
        await self._running.drain(grace)
        await self._compaction.close()

    async def recover(self) -> None:
        """End every turn that a crash left running."""
        await self._running.recover()

    def refuse_if_draining(self) -> None:
        if self.draining:
            raise _draining()

    async def _claimed_once(
        self,
        owner: str,
        conversation_id: str,
        question: Ask,
        claim: Claim,
        writer: Upstream | None,
        on_leave: OnDisconnect,
    ) -> Turn:
        """Begin a claimed turn once, however many ask for it at the same moment."""
        held = self._claimed.get((owner, claim.key))
        if held is None:
            begin = partial(self._joined_or_begun, owner, conversation_id, question, claim, writer)
            task = self._beginning.own(joined(begin))
            self._claimed[owner, claim.key] = claim, task
            task.add_done_callback(lambda _: self._claimed.pop((owner, claim.key)))
        elif held[0].fingerprint == claim.fingerprint:
            task = held[1]
        else:
            raise IdempotencyMismatchError(
                "This idempotency key was used for another request.", "idempotency-key"
            )
        return await self._beginning.shielded(task, owner, on_leave)

    async def _joined_or_begun(
        self,
        owner: str,
        conversation_id: str,
        question: Ask,
        claim: Claim,
        writer: Upstream | None,
    ) -> Turn:
        """Return the turn of a claim; one that was interrupted has its question answered anew."""
        turn_id = await self._store.claimed(owner, claim)
        if turn_id is None:
            return await self._begun(owner, conversation_id, question, claim, writer)
        if (live := self._live.find(owner, turn_id)) is not None:
            return live.snapshot()
        turn = await self._store.turn(owner, turn_id)
        if turn.status is not Status.INTERRUPTED:
            return turn
        return await self._in_place(
            (owner, turn.conversation_id),
            question,
            lambda: self._planner.plan_anew(owner, turn, question, claim),
            writer,
        )

    async def _begun(
        self,
        owner: str,
        conversation_id: str,
        question: Ask,
        claim: Claim | None = None,
        writer: Upstream | None = None,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
    ) -> Turn:
        free = question.response is not None and question.response.free
        return await self._in_place(
            beside(owner, conversation_id, self._planner.ids) if free else (owner, conversation_id),
            question,
            lambda: self._planner.plan(owner, conversation_id, question, claim),
            writer,
            on_leave,
        )

    async def _in_place(
        self,
        place: Place,
        question: Wishes,
        plan: Callable[[], Coroutine[Any, Any, Plan]],
        writer: Upstream | None = None,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
        *,
        kept: bool = True,
    ) -> Turn:
        await self._capacity.token_budget.check(place[0])
        asks = waiting_of(question, self._planner.ids)
        await self._take(place, question, asks)
        while True:
            # Shielded: who vanishes now would else leave the conversation busy for ever.
            beginning = self._beginning.own(self._begin(place, plan, writer, kept=kept))
            try:
                return await self._beginning.shielded(beginning, place[0], on_leave)
            except AheadError as ahead:
                await self._take_again(place, ahead, question.if_busy, asks)
            except asyncio.CancelledError:
                beginning.add_done_callback(partial(self._left, place))
                raise

    async def _take_again(
        self, place: Place, ahead: AheadError, if_busy: IfBusy, asks: Waiting
    ) -> None:
        """Let another node go ahead, and wait at the head of our line."""
        try:
            await self._ahead.refuse(place[0], ahead, if_busy)
        except BaseException:
            self._give_back(place)
            raise
        self._ahead.stand_in(place, ahead, if_busy, lambda: self._give_back(place))
        first = if_busy is IfBusy.INTERRUPT
        await self._called(place, self._live.take_again(place, first=first, asks=asks))

    def _left(self, place: Place, beginning: asyncio.Task[Turn]) -> None:
        """Give back a place that was kept for who has left."""
        if not beginning.cancelled() and isinstance(beginning.exception(), AheadError):
            self._give_back(place)

    async def _take(self, place: Place, question: Wishes, asks: Waiting) -> None:
        if question.if_busy is IfBusy.REJECT and self._live.taken(place):
            raise BusyError("Another turn of this conversation is running.")
        self.refuse_if_draining()  # nobody joins a line that has been sent away
        self._capacity.refuse_a_crowd(place, self._live)
        if question.if_busy is IfBusy.INTERRUPT:
            await self._interrupt(place, asks)
        else:
            await self._line_up(place, asks)

    async def _line_up(
        self, place: Place, asks: Waiting | None = None, *, first: bool = False
    ) -> None:
        """Wait for a place, `first` before all others."""
        await self._called(place, self._live.take(place, first=first, asks=asks))

    async def _called(self, place: Place, taking: Awaitable[None]) -> None:
        """Wait for a place; the room that was left to one who leaves when called is left."""
        try:
            await taking
        except BaseException:
            self._leave_room(place)
            raise

    async def _interrupt(self, place: Place, asks: Waiting | None = None) -> None:
        self._interrupting[place] += 1
        try:
            if (live := self._live.in_conversation(*place)) is not None:
                live.stop(Status.CANCELLED)
            self._ahead.stop(place)
            await self._line_up(place, asks, first=True)
        finally:
            self._interrupting[place] -= 1
            if not self._interrupting[place]:
                del self._interrupting[place]

    async def _begin(
        self,
        place: Place,
        plan: Callable[[], Coroutine[Any, Any, Plan]],
        writer: Upstream | None,
        *,
        kept: bool,
    ) -> Turn:
        """Keep and start a turn; its end gives the place back, and so does a failure here.

        Raises AheadError, and keeps the place, where a turn runs there at another node.
        """
        try:
            self.refuse_if_draining()
            self._capacity.make_room(place)
            # Those before it in line may have spent all.
            await self._capacity.token_budget.check(place[0])
            live, planned = await self._planned(place, plan, kept=kept)
        except AheadError:
            raise
        except BaseException:
            self._give_back(place)
            raise
        if live.is_told:
            self._live.note(place[0], Began(live.turn))
        self._compaction.give_way(planned.sending.named)
        self._running.start(live, planned, lambda: self._free(place, live), writer)
        if self._interrupting[place]:
            live.stop(Status.CANCELLED)
        self._live.notify((place[0], live.turn.conversation_id))
        return live.turn

    async def _planned(
        self, place: Place, plan: Callable[[], Coroutine[Any, Any, Plan]], *, kept: bool
    ) -> tuple[LiveTurn, Plan]:
        """Plan a turn and keep it; plan again where the conversation went on at another node."""
        while True:
            planned = await plan()
            live = self._live.admit(place[0], planned.turn)
            live.is_told = kept and planned.listed
            if not kept:
                live.is_kept = False
                self._live.linger(live)  # it may have ended before anybody follows it
            try:
                if kept:
                    live.turn = await self._keep(place, planned)
            except BaseException as error:
                self._live.forget(live)
                if isinstance(error, MovedError):
                    continue
                if isinstance(error, BusyError) and not isinstance(error, ClaimedError):
                    raise await self._ahead.found(place, error, planned.claim) from error
                raise
            return live, planned

    async def _keep(self, place: Place, planned: Plan) -> Turn:
        return await self._store.begin(
            place[0],
            planned.turn,
            planned.question,
            conversation=planned.conversation,
            title=planned.title,
            claim=planned.claim,
            before=planned.before,
            head=... if planned.turn.free else planned.head_id,
            waiting=self._live.waited_as(place),
        )

    def _free(self, place: Place, live: LiveTurn) -> None:
        """Let the next turn begin: an end is kept and announced."""
        self._give_back(place)
        if not live.turn.free:
            self._compaction.consider(live.owner, live.turn)

    def _cleared(self, place: Place) -> None:
        self._give_back(place)
        self._live.notify(place)

    def _give_back(self, place: Place) -> None:
        self._live.give_back(place)
        self._leave_room(place)

    def _leave_room(self, place: Place) -> None:
        """Give up the room of a place that nobody has taken over."""
        if not self._live.taken(place):
            self._capacity.leave_room(place)


def _draining() -> DrainingError:
    return DrainingError("The server is shutting down; ask again in a moment.")

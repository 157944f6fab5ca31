"""How a turn begins: place taken, prompt composed, question kept, answer begun."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from server.core.bell import Bell
from server.core.checks import title_of
from server.core.errors import DrainingError, InvalidRequestError
from server.core.ids import NEW, Ids, check_id
from server.core.places import Places
from server.core.prompts import Composed, Prompts, Settings
from server.core.questions import (
    ROOT,
    Ask,
    IfBusy,
    Regenerate,
    check_ask,
    check_regenerate,
    claim_of,
)
from server.core.running import Running
from server.core.turns import LiveTurn
from server.upstream.port import Prompt
from storage.model import Conversation, Message, Role, Status, Turn
from storage.port import BusyError, Claim, IdempotencyMismatchError, NotFoundError, Store

Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What conversations that say nothing use, and how many askers may wait in one."""

    model: str
    system_prompt: str | None = None
    counting: Settings = field(default_factory=Settings)
    most_waiting: int = 1000


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that the beginning of a turn writes and sends."""

    turn: Turn
    prompt: Prompt
    question: Message | None
    conversation: Conversation | None
    title: str
    claim: Claim | None


class Asking:
    """Begins turns, one at a time in a conversation, in order of arrival."""

    def __init__(
        self,
        store: Store,
        prompts: Prompts,
        running: Running,
        bell: Bell,
        defaults: Defaults,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._prompts = prompts
        self._running = running
        self._bell = bell
        self._defaults = defaults
        self._now = now
        self.ids = Ids(now)
        self.places = Places(defaults.most_waiting)
        self._interrupting: Counter[Place] = Counter()
        self._claimed: dict[tuple[str, str], tuple[Claim, asyncio.Task[Turn]]] = {}
        self._beginning: set[asyncio.Task[Turn]] = set()
        self.draining = False

    async def ask(self, owner: str, conversation_id: str, question: Ask) -> Turn:
        """Keep a question, begin its turn, and return at once."""
        self.refuse_if_draining()
        question = check_ask(question)
        claim = claim_of(conversation_id, question, self._now())
        if conversation_id in ("", NEW):
            conversation_id = self.ids.new("conv")
        else:
            check_id(conversation_id, "conversation_id")
        if claim is None:
            return await self._begun(owner, conversation_id, question)
        return await self._claimed_once(owner, conversation_id, question, claim)

    async def regenerate(self, owner: str, conversation_id: str, again: Regenerate) -> Turn:
        """Begin another answer to a question that is kept already."""
        self.refuse_if_draining()
        again = check_regenerate(again)
        await self._store.conversation(owner, conversation_id)
        return await self._in_place(
            (owner, conversation_id),
            again.if_busy,
            lambda: self._plan_again(owner, conversation_id, again),
        )

    async def clear(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation, when the turn that runs in it is cancelled and has ended."""
        place = owner, conversation_id
        await self._take(place, IfBusy.INTERRUPT)
        try:
            await self._store.delete(owner, conversation_id)
        finally:
            self.places.give_back(place)
        self._bell.ring(place)

    async def drain(self) -> None:
        """Refuse whoever asks or waits, and let the turns that are just beginning begin."""
        self.draining = True
        self.places.refuse_all(_draining())
        while self._beginning:
            await asyncio.wait(set(self._beginning))

    def refuse_if_draining(self) -> None:
        if self.draining:
            raise _draining()

    async def _claimed_once(
        self, owner: str, conversation_id: str, question: Ask, claim: Claim
    ) -> Turn:
        """Begin a claimed turn once, however many ask for it at the same moment."""
        held = self._claimed.get((owner, claim.key))
        if held is None:
            task = self._own(self._joined_or_begun(owner, conversation_id, question, claim))
            self._claimed[owner, claim.key] = claim, task
            task.add_done_callback(lambda _: self._claimed.pop((owner, claim.key)))
        elif held[0].fingerprint == claim.fingerprint:
            task = held[1]
        else:
            raise IdempotencyMismatchError(
                "This idempotency key was used for another request.", "idempotency-key"
            )
        return await asyncio.shield(task)

    async def _joined_or_begun(
        self, owner: str, conversation_id: str, question: Ask, claim: Claim
    ) -> Turn:
        turn_id = await self._store.claimed(owner, claim)
        if turn_id is None:
            return await self._begun(owner, conversation_id, question, claim)
        live = self._running.find(owner, turn_id)
        return live.snapshot() if live else await self._store.turn(owner, turn_id)

    async def _begun(
        self, owner: str, conversation_id: str, question: Ask, claim: Claim | None = None
    ) -> Turn:
        return await self._in_place(
            (owner, conversation_id),
            question.if_busy,
            lambda: self._plan(owner, conversation_id, question, claim),
        )

    async def _in_place(
        self, place: Place, if_busy: IfBusy, plan: Callable[[], Coroutine[Any, Any, _Plan]]
    ) -> Turn:
        await self._take(place, if_busy)
        # Shielded: a caller who vanishes now would else leave the conversation busy for ever.
        return await asyncio.shield(self._own(self._begin(place, plan)))

    async def _take(self, place: Place, if_busy: IfBusy) -> None:
        if if_busy is IfBusy.REJECT and self.places.taken(place):
            raise BusyError("Another turn of this conversation is running.")
        if if_busy is not IfBusy.INTERRUPT:
            await self.places.take(place)
            return
        self._interrupting[place] += 1
        try:
            if (live := self._running.in_conversation(*place)) is not None:
                live.stop(Status.CANCELLED)
            await self.places.take(place, first=True)
        finally:
            self._interrupting[place] -= 1
            self._interrupting += Counter()  # drops what is nought

    async def _begin(self, place: Place, plan: Callable[[], Coroutine[Any, Any, _Plan]]) -> Turn:
        """Keep and start a turn; its end gives the place back, and so does a failure here."""
        try:
            self.refuse_if_draining()
            planned = await plan()
            live = LiveTurn(place[0], planned.turn)
            self._running.admit(live)
            try:
                turn = await self._store.begin(
                    place[0],
                    planned.turn,
                    planned.question,
                    conversation=planned.conversation,
                    title=planned.title,
                    claim=planned.claim,
                )
            except BaseException:
                self._running.forget(live)
                raise
        except BaseException:
            self.places.give_back(place)
            raise
        live.turn = turn
        self._running.start(live, planned.prompt, self.ids.new("msg"), self._place_free(place))
        if self._interrupting[place]:
            live.stop(Status.CANCELLED)
        self._bell.ring(place)
        return turn

    def _place_free(self, place: Place) -> Callable[[], None]:
        return lambda: self.places.give_back(place)

    async def _plan(
        self, owner: str, conversation_id: str, question: Ask, claim: Claim | None
    ) -> _Plan:
        there = await self._found(owner, conversation_id)
        model = question.model or (there and there.model) or self._defaults.model
        system_prompt = self._system_prompt(there, question)
        parent_id = _parent(there, question)
        composed = await self._prompts.compose(
            owner,
            conversation_id,
            parent_id,
            question.content,
            model_name=model,
            system_prompt=system_prompt,
            max_tokens=question.max_tokens,
        )
        now = self._now()
        turn_id, message_id = self.ids.new("turn"), self.ids.new("msg")
        first = there is None or not there.message_count
        return _Plan(
            turn=_turn(turn_id, conversation_id, model, parent_id, message_id, composed, now),
            prompt=_prompt(model, composed, question, self._defaults.counting.max_tokens),
            question=Message(
                id=message_id,
                conversation_id=conversation_id,
                parent_id=parent_id,
                role=Role.USER,
                content=question.content,
                tokens=composed.question_tokens,
                encoding=composed.encoding,
                model=None,
                turn_id=turn_id,
                created_at=now,
            ),
            conversation=_made(conversation_id, there, question, system_prompt, now)
            if first
            else None,
            title=title_of(question.content),
            claim=claim,
        )

    async def _plan_again(self, owner: str, conversation_id: str, again: Regenerate) -> _Plan:
        there = await self._store.conversation(owner, conversation_id)
        question = await self._question(owner, there, again.message_id)
        model = again.model or there.model or self._defaults.model
        composed = await self._prompts.compose(
            owner,
            conversation_id,
            question.parent_id,
            question.content,
            model_name=model,
            system_prompt=there.system_prompt,
            max_tokens=again.max_tokens,
        )
        turn = _turn(
            self.ids.new("turn"),
            conversation_id,
            model,
            question.parent_id,
            question.id,
            composed,
            self._now(),
        )
        prompt = _prompt(model, composed, again, self._defaults.counting.max_tokens)
        return _Plan(turn, prompt, question=None, conversation=None, title="", claim=None)

    async def _question(self, owner: str, there: Conversation, message_id: str | None) -> Message:
        """Return the question that a message answers, or that it is."""
        leaf = message_id or there.head_id
        if leaf is None:
            raise InvalidRequestError("There is nothing to answer in this conversation yet.")
        above = await self._store.branch(owner, there.id, leaf, limit=_MOST_STEPS)
        for message in above:
            if message.role is Role.USER:
                return message
        raise InvalidRequestError("There is no question above this message.", "message_id")

    async def _found(self, owner: str, conversation_id: str) -> Conversation | None:
        try:
            return await self._store.conversation(owner, conversation_id)
        except NotFoundError:
            return None

    def _system_prompt(self, there: Conversation | None, question: Ask) -> str | None:
        if there is None:
            return question.system_prompt or self._defaults.system_prompt
        if question.system_prompt in (None, there.system_prompt):
            return there.system_prompt
        if there.message_count:
            raise InvalidRequestError(
                "system_prompt can be given in the first ask of a conversation only; "
                "PATCH /conversations/{id} changes it later.",
                "system_prompt",
            )
        return question.system_prompt

    def _own(self, beginning: Coroutine[Any, Any, Turn]) -> asyncio.Task[Turn]:
        task = asyncio.create_task(beginning)
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        # An asker who left does not fetch the error; that is no news for the log.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


#: An answer stands a few messages below its question at most (tool calls of imported histories).
_MOST_STEPS = 50


def _draining() -> DrainingError:
    return DrainingError("The server is shutting down; ask again in a moment.")


def _parent(there: Conversation | None, question: Ask) -> str | None:
    if question.parent_id == ROOT:
        return None
    if question.parent_id is None:
        return there.head_id if there else None
    if there is None:
        raise NotFoundError(f"There is no message {question.parent_id!r}.", "parent_id")
    return question.parent_id


def _made(
    conversation_id: str,
    there: Conversation | None,
    question: Ask,
    system_prompt: str | None,
    now: int,
) -> Conversation:
    return Conversation(
        id=conversation_id,
        title="",
        system_prompt=system_prompt,
        model=(there and there.model) or question.model,
        metadata={},
        created_at=now,
        updated_at=now,
    )


def _turn(
    turn_id: str,
    conversation_id: str,
    model: str,
    parent_id: str | None,
    question_id: str,
    composed: Composed,
    now: int,
) -> Turn:
    return Turn(
        id=turn_id,
        conversation_id=conversation_id,
        status=Status.RUNNING,
        model=model,
        parent_id=parent_id,
        question_id=question_id,
        answer_id=None,
        answer="",
        context=composed.sent,
        created_at=now,
    )


def _prompt(
    model: str, composed: Composed, how: Ask | Regenerate, max_tokens: int | None
) -> Prompt:
    return Prompt(
        model=model,
        messages=composed.messages,
        max_tokens=how.max_tokens or max_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        seed=how.seed,
        stop=how.stop,
    )

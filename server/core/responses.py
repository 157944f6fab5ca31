"""Turns as responses of OpenAI's API: begun, found again, waited for, and deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

from server.core import validation
from server.core.turns.begin import Asking
from server.core.turns.follow import Following
from server.core.turns.plan import Planner
from server.core.turns.questions import Ask, OnDisconnect, check_ask
from server.live.turn import Ended, TurnEvent
from storage.model import Message, Role, Turn
from storage.port import NotFoundError, Store

#: behind the last character of any answer
BEHIND = (1 << 63) - 1
#: Messages of a turn's input that are read at a time.
STEP = 100
#: Conversations that are looked for at a time, to be deleted.
EXPIRED_AT_ONCE = 20


class Responses:
    """Every call is its owner's. A turn that is told to be kept by nobody is not found."""

    def __init__(
        self, store: Store, planner: Planner, asking: Asking, following: Following
    ) -> None:
        self._store = store
        self._planner = planner
        self._asking = asking
        self._following = following

    async def begin(self, owner: str, conversation_id: str, question: Ask) -> Turn:
        """Keep a question and begin its turn; see Conversations.ask."""
        return await self._asking.ask(owner, conversation_id, question)

    async def say(self, owner: str, conversation_id: str, question: Ask) -> Turn:
        """Begin a turn of which nothing is kept; `follow` it, to whose end it lives."""
        return await self._asking.say(owner, conversation_id, question)

    def follow(
        self, owner: str, turn_id: str, *, said: bool = False
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield a turn's events from its beginning; one that was said ends with its follower."""
        leaving = OnDisconnect.CANCEL if said else OnDisconnect.CONTINUE
        return self._following.follow(owner, turn_id, 0, leaving)

    async def turn(self, owner: str, turn_id: str) -> Turn:
        """Return a turn; a running one with its answer so far. Raises NotFoundError."""
        turn = await self._following.turn(owner, turn_id)
        if turn.deleted or not (turn.record or {}).get("store", True):
            raise NotFoundError(f"There is no turn {turn_id!r}.", "turn_id")
        return turn

    async def ended(self, owner: str, turn_id: str) -> Turn:
        """Return a turn once it has ended."""
        await self.turn(owner, turn_id)
        following = self._following.follow(owner, turn_id, BEHIND, OnDisconnect.CONTINUE)
        async with aclosing(following) as events:
            async for event in events:
                if isinstance(event, Ended):
                    return event.turn
        raise NotFoundError(f"There is no turn {turn_id!r}.", "turn_id")

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        """Stop the writing of an answer and return the turn as it ended."""
        return await self._following.cancel(owner, turn_id)

    async def delete(self, owner: str, turn_id: str) -> None:
        """Delete a turn as a response, its unlisted conversation with the last that it had."""
        await self.turn(owner, turn_id)
        left = await self._store.delete_response(owner, turn_id)
        if left is not None:
            await self._asking.clear(owner, left)

    async def expire(self, before: int) -> None:
        """Delete what is in no list and was not written to since, a time in microseconds."""
        while found := await self._store.expired(before, limit=EXPIRED_AT_ONCE):
            for owner, conversation_id in found:
                with suppress(NotFoundError):  # another node was first
                    await self._asking.clear(owner, conversation_id)

    async def input(self, owner: str, turn: Turn) -> Sequence[Message]:
        """Return the messages that a turn answers, newest first: those that came with it."""
        found: list[Message] = []
        leaf: str | None = turn.question_id
        while leaf is not None:
            step = await self._store.branch(owner, turn.conversation_id, leaf, limit=STEP)
            for message in step:
                if found and not _came_with(message, found[0]):
                    return found
                found.append(message)
            leaf = step[-1].parent_id
        return found

    async def message(self, owner: str, message_id: str) -> Message:
        """Return a message, in whatever conversation it is. Raises NotFoundError."""
        validation.known(message_id, "id")
        return await self._store.find_message(owner, message_id)

    async def planned(self, owner: str, conversation_id: str, question: Ask) -> Turn:
        """Return the turn of a question as it would begin. Asks nobody for an answer."""
        question = check_ask(question)
        return (await self._planner.plan(owner, conversation_id, question, None)).turn


def _came_with(message: Message, question: Message) -> bool:
    """Say whether a message came with a question: of one's turn, or a result told before it."""
    if message.turn_id is not None:
        return message.turn_id == question.turn_id
    return message.role is Role.TOOL

"""Begins responses, whichever way they are asked for: where one goes on, what it asks, its turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from server.core.conversations import Ask, Conversations
from server.core.errors import INTERRUPTED, DrainingError, RefusedError
from server.core.ids import NEW
from server.core.turns.placement import Utterance
from server.live.turn import Delta, Ended, TurnEvent
from server.openai_protocol.errors import missing
from server.transports.openai.failures import failure_of
from server.transports.openai.request import Caller
from server.transports.openai.responses.finding import Finding, no_previous
from server.transports.openai.responses.input import input_of, utterances
from server.transports.openai.responses.request import Wanted, as_theirs, question_of
from storage.model import Role, Status, Turn
from storage.port import NotFoundError


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a response goes on: under a message that is kept, behind what is kept nowhere."""

    conversation_id: str = NEW
    parent_id: str | None = None
    said: tuple[Utterance, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether what was said waits for an answer, though nothing is said behind it."""
        return bool(self.said) and self.said[-1].role is not Role.ASSISTANT


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a response as it is asked of the core."""

    wanted: Wanted
    standing: Standing
    question: Ask

    @property
    def said(self) -> tuple[Utterance, ...]:
        """All that stands behind what is kept, the question last."""
        return self.question.response.said if self.question.response else ()


class Creation:
    """Begins the turns that responses are."""

    def __init__(self, conversations: Conversations, finding: Finding) -> None:
        self._responses = conversations.responses
        self._finding = finding

    async def asked(
        self,
        caller: Caller,
        wanted: Wanted,
        *,
        recalled: Standing | None = None,
        key: str | None = None,
    ) -> Asked:
        """Return what a request asks. Raises RefusedError.

        It goes on where its caller recalls, or else from what is kept; `key` is its idempotency
        key.
        """
        waits = recalled is not None and recalled.asks
        items = [] if waits and not wanted.asked.raw("input") else input_of(wanted.asked)
        said = utterances(await self._finding.resolved(caller, items))
        if not (said or waits):
            raise missing("input")
        standing = recalled or await self._standing(caller, wanted)
        try:
            question = question_of(wanted, [*standing.said, *said], standing.parent_id, key)
        except RefusedError as error:
            raise as_theirs(error) from None
        return Asked(wanted, standing, question)

    async def begun(self, caller: Caller, asked: Asked) -> Turn:
        """Begin the turn that a response is."""
        begin = self._responses.begin if asked.wanted.in_line else self._responses.say
        with _told_as_theirs(asked.wanted):
            return await begin(caller.owner, asked.standing.conversation_id, asked.question)

    async def planned(self, caller: Caller, asked: Asked) -> Turn:
        """Return a turn as it would begin; nobody is asked for an answer."""
        planned = self._responses.planned
        with _told_as_theirs(asked.wanted):
            return await planned(caller.owner, asked.standing.conversation_id, asked.question)

    def follow(self, caller: Caller, asked: Asked, turn: Turn) -> AsyncGenerator[TurnEvent, None]:
        """Yield the turn's events; one that is kept nowhere ends with whoever reads them."""
        return self._responses.follow(caller.owner, turn.id, said=not asked.wanted.in_line)

    async def _standing(self, caller: Caller, wanted: Wanted) -> Standing:
        if wanted.previous is not None:
            before = await self._finding.previous(caller, wanted.previous)
            return Standing(before.conversation_id, before.answer_id or before.question_id)
        if wanted.conversation is not None:
            return Standing((await self._finding.conversation(caller, wanted.conversation)).id)
        return Standing()


@contextmanager
def _told_as_theirs(wanted: Wanted) -> Iterator[None]:
    """Refuse in the words of this API; what is gone on from may be gone by now."""
    try:
        yield
    except RefusedError as error:
        raise as_theirs(error) from None
    except NotFoundError:
        if wanted.previous is None:
            raise
        raise no_previous(wanted.previous) from None


async def spoken(events: AsyncIterator[TurnEvent]) -> AsyncIterator[TurnEvent]:
    """Return a turn's events once there are words. Raises what it failed of before them."""
    return _chained(await _first(events), events)


async def ended(events: AsyncIterator[TurnEvent]) -> Turn:
    """Return a turn once it has ended. Raises what it failed of before its first word."""
    async for event in events:
        if isinstance(event, Ended):
            _refuse_silent(event.turn)
            return event.turn
    raise DrainingError(INTERRUPTED)


async def _first(events: AsyncIterator[TurnEvent]) -> list[TurnEvent]:
    begun: list[TurnEvent] = []
    async for event in events:
        begun.append(event)
        match event:
            case Delta():
                break
            case Ended(turn=turn):
                _refuse_silent(turn)
    return begun


def _refuse_silent(turn: Turn) -> None:
    """Raise what a turn failed of that said nothing: its client may simply ask again."""
    if turn.content:
        return
    if turn.status is Status.INTERRUPTED:
        raise DrainingError(INTERRUPTED)
    if turn.status is Status.FAILED:
        error = failure_of(turn)
        raise as_theirs(error) if isinstance(error, RefusedError) else error


async def _chained(
    begun: Sequence[TurnEvent], events: AsyncIterator[TurnEvent]
) -> AsyncGenerator[TurnEvent, None]:
    for event in begun:
        yield event
    async for event in events:
        yield event

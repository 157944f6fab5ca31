"""Responses: created, streamed, read again, cancelled, deleted; each is a turn of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from itertools import count
from urllib.parse import parse_qs

from server.core.conversations import Ask, Conversations
from server.core.errors import INTERRUPTED, DrainingError, RefusedError
from server.core.ids import NEW
from server.live.turn import Delta, Ended, TurnEvent
from server.openai_protocol.errors import ApiError, missing, mistyped
from server.openai_protocol.fields import Fields
from server.openai_protocol.stream import DONE
from server.transports.openai.body import read_json
from server.transports.openai.exchange import Exchange
from server.transports.openai.failures import failure_of
from server.transports.openai.paging import page_of, paging_of
from server.transports.openai.responses.events import AnswerEvents
from server.transports.openai.responses.finding import Finding
from server.transports.openai.responses.handing_on import HandingOn
from server.transports.openai.responses.ids import response_id
from server.transports.openai.responses.input import input_of, utterances
from server.transports.openai.responses.items import items_of
from server.transports.openai.responses.render import response_of
from server.transports.openai.responses.request import Wanted, as_theirs, question_of, wanted_of
from server.upstream.bodies import EVENTS
from server.upstream.port import Reply
from storage.model import Status, Turn

_CONVERSATION, _TURN = "x-conversation-id", "x-turn-id"
#: A replay is a burst: so many events, and others have their turn.
_AT_ONCE = 256


class ResponseRoutes:
    """The routes of responses."""

    def __init__(
        self, conversations: Conversations, finding: Finding, handing_on: HandingOn
    ) -> None:
        self._responses = conversations.responses
        self._finding = finding
        self._handing_on = handing_on

    async def create(self, exchange: Exchange) -> None:
        """Begin a response, and answer with it, or with its events."""
        body = await exchange.body.read()
        asked = read_json(body)
        if await self._handing_on.takes(exchange, body, asked):
            return
        wanted = wanted_of(asked)
        turn = await self._begun(exchange, wanted)
        own = {_CONVERSATION: turn.conversation_id, _TURN: turn.id} if wanted.in_line else {}
        if wanted.background and not wanted.stream:
            await exchange.answer(response_of(turn), own)
            return
        owner = exchange.request.owner
        following = self._responses.follow(owner, turn.id, said=not wanted.in_line)
        async with aclosing(following) as events:
            if wanted.stream:
                begun = [] if wanted.background else await _first(events)
                await _stream(exchange, turn, _chained(begun, events), own)
            else:
                await exchange.answer(response_of(await _ended(events)), own)

    async def read(self, exchange: Exchange) -> None:
        """Show a response, or tell its events from a number on."""
        turn = await self._finding.turn(exchange, exchange.request.names["id"])
        query = parse_qs(exchange.request.query)
        if query.get("stream", ["false"])[-1] != "true":
            await exchange.answer(response_of(turn))
            return
        after = _number(query.get("starting_after", ["-1"])[-1])
        async with aclosing(self._responses.follow(exchange.request.owner, turn.id)) as events:
            await _stream(exchange, turn, events, {}, after)

    async def delete(self, exchange: Exchange) -> None:
        """Forget a response; the conversation that it is of stays, where one was named."""
        turn = await self._finding.turn(exchange, exchange.request.names["id"])
        await self._responses.delete(exchange.request.owner, turn.id)
        gone = {"id": response_id(turn.id), "object": "response", "deleted": True}
        await exchange.answer(gone)

    async def cancel(self, exchange: Exchange) -> None:
        """Stop a response that is written in the background."""
        turn = await self._finding.turn(exchange, exchange.request.names["id"])
        if not (turn.record or {}).get("background"):
            raise ApiError("Cannot cancel a synchronous response.")
        ended = await self._responses.cancel(exchange.request.owner, turn.id)
        await exchange.answer(response_of(ended))

    async def input_items(self, exchange: Exchange) -> None:
        """Show a page of what a response answers."""
        turn = await self._finding.turn(exchange, exchange.request.names["id"])
        asked = paging_of(exchange.request.query, "desc")
        said = await self._responses.input(exchange.request.owner, turn)
        items = [item for message in reversed(said) for item in items_of(message)]
        await exchange.answer(page_of(items, asked))

    async def input_tokens(self, exchange: Exchange) -> None:
        """Count what would be sent for a request."""
        asked = read_json(await exchange.body.read())
        wanted = wanted_of(Fields({**asked.values, "truncation": "auto"}))
        conversation_id, question = await self._asked(exchange, wanted)
        try:
            tokens = await self._responses.count(exchange.request.owner, conversation_id, question)
        except RefusedError as error:
            raise as_theirs(error) from None
        await exchange.answer({"object": "response.input_tokens", "input_tokens": tokens})

    async def _begun(self, exchange: Exchange, wanted: Wanted) -> Turn:
        conversation_id, question = await self._asked(exchange, wanted)
        begin = self._responses.begin if wanted.in_line else self._responses.say
        try:
            return await begin(exchange.request.owner, conversation_id, question)
        except RefusedError as error:
            raise as_theirs(error) from None

    async def _asked(self, exchange: Exchange, wanted: Wanted) -> tuple[str, Ask]:
        """Return where a request asks, and what."""
        items = await self._finding.resolved(exchange, input_of(wanted.asked))
        if not (said := utterances(items)):
            raise missing("input")
        conversation_id, parent = NEW, None
        if wanted.previous is not None:
            before = await self._finding.previous(exchange, wanted.previous)
            conversation_id, parent = before.conversation_id, before.answer_id or before.question_id
        elif wanted.conversation is not None:
            conversation_id = (await self._finding.conversation(exchange, wanted.conversation)).id
        key = exchange.request.headers.get("idempotency-key") or None
        try:
            return conversation_id, question_of(wanted, said, parent, key)
        except RefusedError as error:
            raise as_theirs(error) from None


async def _first(events: AsyncIterator[TurnEvent]) -> list[TurnEvent]:
    """Return the events up to the first words. Raises what a response failed of before them."""
    begun: list[TurnEvent] = []
    async for event in events:
        begun.append(event)
        match event:
            case Delta():
                break
            case Ended(turn=turn):
                _refuse_silent(turn)
    return begun


async def _ended(events: AsyncIterator[TurnEvent]) -> Turn:
    async for event in events:
        if isinstance(event, Ended):
            _refuse_silent(event.turn)
            return event.turn
    raise DrainingError(INTERRUPTED)


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


async def _stream(
    exchange: Exchange,
    turn: Turn,
    events: AsyncIterator[TurnEvent],
    headers: dict[str, str],
    after: int = -1,
) -> None:
    async with aclosing(_lines(AnswerEvents(turn, after), events)) as body:
        await exchange.relay(Reply(200, {**headers, "content-type": EVENTS}, body), spoken=True)


async def _lines(
    answer: AnswerEvents, events: AsyncIterator[TurnEvent]
) -> AsyncGenerator[bytes, None]:
    numbers = count(1)
    async for event in events:
        for line in answer.take(event):
            yield line
            if not next(numbers) % _AT_ONCE:
                await asyncio.sleep(0)
    yield DONE


def _number(given: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise mistyped("starting_after", "an integer", given) from None

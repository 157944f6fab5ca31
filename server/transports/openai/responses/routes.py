"""Responses: created, streamed, read again, cancelled, deleted; each is a turn of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from urllib.parse import parse_qs

from server.core.conversations import Conversations
from server.live.turn import TurnEvent
from server.openai_protocol.errors import ApiError, mistyped
from server.openai_protocol.fields import Fields
from server.openai_protocol.stream import DONE
from server.transports.openai.body import read_json
from server.transports.openai.exchange import Exchange
from server.transports.openai.paging import page_of, paging_of
from server.transports.openai.responses.creation import Creation, ended, spoken
from server.transports.openai.responses.events import AnswerEvents
from server.transports.openai.responses.finding import Finding
from server.transports.openai.responses.handing_on import HandingOn
from server.transports.openai.responses.ids import response_id
from server.transports.openai.responses.items import items_of, spaces_in
from server.transports.openai.responses.render import response_of
from server.transports.openai.responses.request import wanted_of
from server.upstream.bodies import EVENTS
from server.upstream.port import Reply
from storage.model import Turn

_CONVERSATION, _TURN = "x-conversation-id", "x-turn-id"


class ResponseRoutes:
    """The routes of responses."""

    def __init__(
        self,
        conversations: Conversations,
        finding: Finding,
        creation: Creation,
        handing_on: HandingOn,
    ) -> None:
        self._responses = conversations.responses
        self._finding = finding
        self._creation = creation
        self._handing_on = handing_on

    async def create(self, exchange: Exchange) -> None:
        """Begin a response, and answer with it, or with its events."""
        body = await exchange.body.read()
        asked = read_json(body)
        if await self._handing_on.takes(exchange, body, asked):
            return
        wanted = wanted_of(asked)
        caller, key = exchange.request, exchange.request.headers.get("idempotency-key") or None
        question = await self._creation.asked(caller, wanted, key=key)
        turn = await self._creation.begun(caller, question)
        own = {_CONVERSATION: turn.conversation_id, _TURN: turn.id} if wanted.in_line else {}
        if wanted.background and not wanted.stream:
            await exchange.answer(response_of(turn), own)
            return
        async with aclosing(self._creation.follow(caller, question, turn)) as events:
            if wanted.stream:
                told = events if wanted.background else await spoken(events)
                await _stream(exchange, turn, told, own)
            else:
                await exchange.answer(response_of(await ended(events)), own)

    async def read(self, exchange: Exchange) -> None:
        """Show a response, or tell its events from a number on."""
        turn = await self._finding.turn(exchange.request, exchange.request.names["id"])
        query = parse_qs(exchange.request.query)
        if query.get("stream", ["false"])[-1] != "true":
            await exchange.answer(response_of(turn))
            return
        after = _number(query.get("starting_after", ["-1"])[-1])
        async with aclosing(self._responses.follow(exchange.request.owner, turn.id)) as events:
            await _stream(exchange, turn, events, {}, after)

    async def delete(self, exchange: Exchange) -> None:
        """Forget a response; the conversation that it is of stays, where one was named."""
        turn = await self._finding.turn(exchange.request, exchange.request.names["id"])
        await self._responses.delete(exchange.request.owner, turn.id)
        gone = {"id": response_id(turn.id), "object": "response", "deleted": True}
        await exchange.answer(gone)

    async def cancel(self, exchange: Exchange) -> None:
        """Stop a response that is written in the background."""
        turn = await self._finding.turn(exchange.request, exchange.request.names["id"])
        if not (turn.record or {}).get("background"):
            raise ApiError("Cannot cancel a synchronous response.")
        stopped = await self._responses.cancel(exchange.request.owner, turn.id)
        await exchange.answer(response_of(stopped))

    async def input_items(self, exchange: Exchange) -> None:
        """Show a page of what a response answers."""
        turn = await self._finding.turn(exchange.request, exchange.request.names["id"])
        asked = paging_of(exchange.request.query, "desc")
        said = await self._responses.input(exchange.request.owner, turn)
        spaces = spaces_in(turn)
        items = [item for message in reversed(said) for item in items_of(message, spaces)]
        await exchange.answer(page_of(items, asked))

    async def input_tokens(self, exchange: Exchange) -> None:
        """Count what would be sent for a request."""
        asked = read_json(await exchange.body.read())
        wanted = wanted_of(Fields({**asked.values, "truncation": "auto"}))
        question = await self._creation.asked(exchange.request, wanted)
        planned = await self._creation.planned(exchange.request, question)
        tokens = planned.context.prompt_tokens
        await exchange.answer({"object": "response.input_tokens", "input_tokens": tokens})


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
    async for told in answer.each(events):
        # In one piece: some readers forget what comes in two.
        yield b"event: %b\ndata: %b\n\n" % (told.kind.encode(), told.data)
    yield DONE


def _number(given: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise mistyped("starting_after", "an integer", given) from None

"""Chat completions with `X-Conversation-Id`: a stateless client joins a conversation of ours."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from server.core.conversations import Ask, Conversations
from server.core.errors import (
    INTERRUPTED,
    ContextLengthError,
    DrainingError,
    InvalidRequestError,
)
from server.core.passthrough import Passthrough
from server.core.turns.tools import fit_to_keep
from server.live.turn import Ended
from server.openai_protocol.codec import encode
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.openai_protocol.stream import DONE
from server.transports.openai.chat.replay import events_of
from server.transports.openai.chat.request_messages import RequestMessages
from server.transports.openai.chat.stored import Stored, metadata_of
from server.transports.openai.chat.turn_writer import Writer
from server.transports.openai.errors import PassedOnError
from server.transports.openai.exchange import Exchange
from server.transports.openai.failures import failure_of
from server.upstream.bodies import EVENTS, after
from server.upstream.port import Reply, UpstreamFailedError
from storage.model import Role, Status, Turn

HEADER = "x-conversation-id"
#: where a client stands that sends no answers: `root`, or the id of a message
PARENT_HEADER = "x-parent-id"
_TURN_HEADER = "x-turn-id"
#: what is sent beside the messages and takes tokens as they do
_ATTACHED = ("tools", "functions", "response_format")
#: behind the last character of any answer
_BEHIND = (1 << 63) - 1
_MANNERS = ("stream", "stream_options")
_TEMPLATES = ("mode", "instruction_template", "prompt_template")
_QUESTIONS = (Role.USER, Role.TOOL)
#: what a client calls what we have other words for
_NAMES = {
    "system_prompt": "messages",
    "conversation_id": "X-Conversation-Id",
    "parent_id": "X-Parent-Id",
}


class Joined:
    """Asks in a conversation with all that a client's request says, and answers the client."""

    def __init__(
        self, passthrough: Passthrough, conversations: Conversations, stored: Stored
    ) -> None:
        self._passthrough = passthrough
        self._conversations = conversations
        self._stored = stored

    async def create(self, exchange: Exchange, asked: Fields, model: str) -> None:
        """Answer a chat completion in the conversation that its header names.

        The turn outlives its asker, as every turn does, and ends where anybody cancels it.
        """
        key = exchange.request.headers.get("idempotency-key") or None
        stands = exchange.request.headers.get(PARENT_HEADER) or None
        question = replace(_question(asked, model), idempotency_key=key, parent_id=stands)
        if key is not None:
            question = replace(question, digest=_digest(asked))
        if asked.flag("store"):
            metadata_of(asked)
        writer = Writer(self._passthrough, exchange, asked)
        turn = await self._begun(exchange, question, writer)
        ending = asyncio.create_task(self._end(exchange.request.owner, turn, writer))
        try:
            await self._answer(exchange, asked, turn, writer, ending)
        finally:
            ending.cancel()

    async def _begun(self, exchange: Exchange, question: Ask, writer: Writer) -> Turn:
        """Begin a turn; what is wrong is named as the client knows it."""
        try:
            return await self._conversations.ask(
                exchange.request.owner, exchange.request.headers[HEADER], question, writer=writer
            )
        except ContextLengthError as error:
            error.param = "messages"
            raise
        except InvalidRequestError as error:
            ours = error.param or ""
            if (theirs := _NAMES.get(ours)) is None:
                raise
            raise InvalidRequestError(str(error).replace(ours, theirs, 1), theirs) from None

    async def _answer(
        self,
        exchange: Exchange,
        asked: Fields,
        turn: Turn,
        writer: Writer,
        ending: asyncio.Task[Turn],
    ) -> None:
        own = {HEADER: turn.conversation_id, _TURN_HEADER: turn.id}
        if asked.flag("stream"):
            events = self._stored.shown(exchange, asked, _whole(writer, ending))
            begun = after(await anext(events), events)
            headers = {**writer.headers, **own, "content-type": EVENTS}
            await exchange.relay(Reply(200, headers, begun), spoken=True)
            return
        _refuse_unfinished(await ending, writer)
        completion = writer.heard.completion()
        if asked.flag("store"):
            completion = await self._stored.keep(exchange, asked, completion)
        await exchange.answer(completion, {**writer.headers, **own})

    async def _end(self, owner: str, turn: Turn, writer: Writer) -> Turn:
        """Return a turn as it ended; nothing is heard of it after that."""
        try:
            following = self._conversations.follow(owner, turn.id, after=_BEHIND)
            async with aclosing(following) as events:
                async for event in events:
                    if isinstance(event, Ended):
                        await self._tell_again(owner, event.turn, writer)
                        return event.turn
            raise UpstreamFailedError("the turn has no end")
        finally:
            writer.end()

    async def _tell_again(self, owner: str, turn: Turn, writer: Writer) -> None:
        """Tell an answer that an earlier request with the same key had."""
        if not writer.begun:
            for event in await events_of(self._conversations, owner, turn):
                writer.tell(event)


def _digest(asked: Fields) -> str:
    """Return a digest of all that a request says, but for how it is to be answered."""
    said = {name: value for name, value in asked.values.items() if name not in _MANNERS}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _question(asked: Fields, model: str) -> Ask:
    """Return what a client asks, and all that it says was said before. Raises RefusedError."""
    if (asked.integer("n") or 1) > 1:
        raise ApiError("A conversation takes one answer: 'n' must be 1.", "n", "invalid_value")
    for name in _TEMPLATES:
        if asked.raw(name) not in (None, "chat"):
            raise ApiError(f"'{name}' cannot be used with X-Conversation-Id.", name)
    told = RequestMessages(asked.raw("messages"))
    said = told.said
    if not said or said[-1].role not in _QUESTIONS:
        raise ApiError(
            "The last message must be of role 'user' or 'tool' where a conversation is joined.",
            "messages",
            "invalid_value",
        )
    attached = {name: asked.raw(name) for name in _ATTACHED if asked.raw(name)}
    attached |= {"messages": told.later} if told.later else {}
    return Ask(
        said[-1].content,
        model=model,
        system_prompt=told.instructions or None,
        max_tokens=asked.integer("max_completion_tokens") or asked.integer("max_tokens"),
        said=said,
        character=asked.text("character"),
        options=fit_to_keep(asked.values),
        attached=encode(attached).decode() if attached else "",
    )


async def _whole(writer: Writer, ending: asyncio.Task[Turn]) -> AsyncIterator[bytes]:
    """Yield the events of an answer, and their end once the turn's end is kept."""
    begun = False
    async for event in writer.events():
        begun = True
        yield event
    try:
        _refuse_unfinished(await ending, writer)
    except PassedOnError as refusal:
        if not begun:
            raise
        yield b"data: %b\n\n" % refusal.body
    else:
        yield DONE


def _refuse_unfinished(turn: Turn, writer: Writer) -> None:
    """Raise what a turn that did not complete is to the client that asked."""
    if writer.failure is not None and turn.status is Status.FAILED:
        raise writer.failure
    match turn.status:
        case Status.COMPLETED:
            return
        case Status.CANCELLED:
            raise UpstreamFailedError("The answer was cancelled.")
        case Status.INTERRUPTED:
            raise DrainingError(INTERRUPTED)
        case _:
            raise failure_of(turn)

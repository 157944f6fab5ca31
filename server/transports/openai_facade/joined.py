"""Chat completions with `X-Conversation-Id`: a stateless client joins a conversation of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from server.core.conversations import Ask, Conversations
from server.core.joining import Said
from server.core.turns import Ended
from server.transports.openai_facade.stored import Stored, metadata_of
from server.transports.openai_facade.visit import Visit
from server.transports.openai_facade.writer import Writer
from server.upstream.bodies import EVENTS
from server.upstream.chunks import DONE
from server.upstream.fields import Fields
from server.upstream.mend import encode
from server.upstream.port import (
    Reply,
    UpstreamFailedError,
)
from server.upstream.refusals import RefusedError
from server.upstream.spoken import content_of, role_of
from server.upstream.upstreams import Upstreams
from storage.model import Content, Role, Status, Turn

HEADER = "x-conversation-id"
_TURN_HEADER = "x-turn-id"
_INSTRUCTIONS = ("system", "developer")
#: what is sent beside the messages and takes tokens as they do
_ATTACHED = ("tools", "functions", "response_format")
#: behind the last character of any answer
_BEHIND = (1 << 63) - 1
_TEMPLATES = ("mode", "instruction_template", "prompt_template")
_QUESTIONS = (Role.USER, Role.TOOL)


class Joined:
    """Asks in a conversation with all that a client's request says, and answers the client."""

    def __init__(self, upstreams: Upstreams, conversations: Conversations, stored: Stored) -> None:
        self._upstreams = upstreams
        self._conversations = conversations
        self._stored = stored

    async def create(self, visit: Visit, asked: Fields, model: str) -> None:
        """Answer a chat completion in the conversation that its header names.

        The turn outlives its asker, as every turn does, and ends where anybody cancels it.
        """
        question = _question(asked, model)
        if asked.flag("store"):
            metadata_of(asked)
        writer = Writer(self._upstreams, visit, asked)
        turn = await self._conversations.ask(
            visit.owner, visit.headers[HEADER], question, writer=writer
        )
        ending = asyncio.create_task(self._end(visit.owner, turn, writer))
        try:
            await self._answer(visit, asked, turn, writer, ending)
        finally:
            ending.cancel()

    async def _answer(
        self,
        visit: Visit,
        asked: Fields,
        turn: Turn,
        writer: Writer,
        ending: asyncio.Task[Turn],
    ) -> None:
        headers = {HEADER: turn.conversation_id, _TURN_HEADER: turn.id}
        if asked.flag("stream"):
            events = self._stored.shown(visit, asked, _whole(writer, ending))
            begun = _begun(await anext(events), events)
            await visit.relay(Reply(200, headers | {"content-type": EVENTS}, begun), spoken=True)
            return
        _refuse_unfinished(await ending, writer)
        completion = writer.heard.completion()
        if asked.flag("store"):
            completion = await self._stored.keep(visit, asked, completion)
        await visit.answer(completion, headers)

    async def _end(self, owner: str, turn: Turn, writer: Writer) -> Turn:
        """Return a turn as it ended; nothing is heard of it after that."""
        try:
            following = self._conversations.follow(owner, turn.id, after=_BEHIND)
            async with aclosing(following) as events:
                async for event in events:
                    if isinstance(event, Ended):
                        return event.turn
            raise UpstreamFailedError("the turn has no end")
        finally:
            writer.end()


def _question(asked: Fields, model: str) -> Ask:
    """Return what a client asks, and all that it says was said before. Raises RefusedError."""
    if (asked.integer("n") or 1) > 1:
        raise RefusedError("A conversation takes one answer: 'n' must be 1.", "n", "invalid_value")
    for name in _TEMPLATES:
        if asked.raw(name) not in (None, "chat"):
            raise RefusedError(f"'{name}' cannot be used with X-Conversation-Id.", name)
    messages: Sequence[Mapping[str, Any]] = asked.raw("messages")
    told = [one for one in messages if one["role"] in _INSTRUCTIONS]
    said = [
        Said(role_of(one), content_of(one)) for one in messages if one["role"] not in _INSTRUCTIONS
    ]
    if not said or said[-1].role not in _QUESTIONS:
        raise RefusedError(
            "The last message must be of role 'user' or 'tool' where a conversation is joined.",
            "messages",
            "invalid_value",
        )
    attached = {name: asked.raw(name) for name in _ATTACHED if asked.raw(name)}
    instructions = "\n\n".join(_plain(content_of(one)) for one in told)
    return Ask(
        said[-1].content,
        model=model,
        system_prompt=instructions or None,
        max_tokens=asked.integer("max_completion_tokens") or asked.integer("max_tokens"),
        said=tuple(said),
        character=asked.text("character"),
        attached=encode(attached).decode() if attached else "",
    )


def _plain(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content)


async def _whole(writer: Writer, ending: asyncio.Task[Turn]) -> AsyncIterator[bytes]:
    """Yield the events of an answer, and their end once the turn's end is kept."""
    async for event in writer.events():
        yield event
    _refuse_unfinished(await ending, writer)
    yield DONE


async def _begun(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in rest:
        yield event


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
            raise UpstreamFailedError("The server was stopped before the answer was whole.")
        case _:
            raise UpstreamFailedError(turn.error.message if turn.error else "The turn failed.")

"""A context made short: its user messages, and a summary of all of it that only we can read."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from server.core.conversations import Conversations
from server.core.errors import INTERRUPTED, DrainingError, RefusedError
from server.core.ids import NEW, answer_id
from server.core.prompt.compaction import INSTRUCTION
from server.core.turns.placement import Utterance
from server.live.turn import Ended
from server.openai_protocol.errors import missing
from server.openai_protocol.fields import Fields
from server.transports.openai.body import read_json
from server.transports.openai.exchange import Exchange
from server.transports.openai.failures import failure_of
from server.transports.openai.responses.finding import Finding
from server.transports.openai.responses.ids import item_id, response_id
from server.transports.openai.responses.input import compacted, input_of, utterances
from server.transports.openai.responses.items import items_of
from server.transports.openai.responses.render import usage_of
from server.transports.openai.responses.request import as_theirs, question_of, wanted_of
from storage.model import Message, Role, Status, Turn

#: What of a request for a response is one for a compaction too.
_TAKEN: Final = ("model", "input", "instructions", "previous_response_id", "prompt_cache_key")
#: User messages that are told again beside the summary, the newest.
_REPEATED: Final = 100


class CompactionRoute:
    """Has a summary written, and keeps nothing of it."""

    def __init__(self, conversations: Conversations, finding: Finding) -> None:
        self._conversations = conversations
        self._responses = conversations.responses
        self._finding = finding

    async def create(self, exchange: Exchange) -> None:
        """Answer with what to send in the place of a context."""
        asked = read_json(await exchange.body.read())
        given = {name: asked.raw(name) for name in _TAKEN if asked.raw(name) is not None}
        wanted = wanted_of(Fields({**given, "store": False, "truncation": "auto"}))
        said = utterances(await self._finding.resolved(exchange.request, input_of(wanted.asked)))
        conversation_id, parent, users = NEW, None, _items(said)
        if wanted.previous is not None:
            before = await self._finding.previous(exchange.request, wanted.previous)
            conversation_id, parent = before.conversation_id, before.answer_id or before.question_id
            users = [*await self._users(exchange, before, parent), *users]
        elif not said:
            raise missing("input")
        question = question_of(wanted, [*said, _INSTRUCTED], parent, None)
        turn = await self._written(exchange, conversation_id, question)
        await exchange.answer(_shown(turn, users))

    async def _users(self, exchange: Exchange, before: Turn, leaf: str) -> list[dict[str, Any]]:
        """Return the newest messages of the user in the branch that is gone on from."""
        page = await self._conversations.messages(
            exchange.request.owner, before.conversation_id, leaf=leaf, limit=_REPEATED
        )
        users = [one for one in page.items if one.role is Role.USER]
        return [item for one in users for item in items_of(one)]

    async def _written(self, exchange: Exchange, conversation_id: str, question: Any) -> Turn:
        owner = exchange.request.owner
        try:
            turn = await self._responses.say(owner, conversation_id, question)
        except RefusedError as error:
            raise as_theirs(error) from None
        async with aclosing(self._responses.follow(owner, turn.id, said=True)) as events:
            async for event in events:
                if isinstance(event, Ended):
                    if event.turn.status is not Status.COMPLETED:
                        raise failure_of(event.turn)
                    return event.turn
        raise DrainingError(INTERRUPTED)


_INSTRUCTED: Final = Utterance(Role.USER, INSTRUCTION)


def _items(said: tuple[Utterance, ...]) -> list[dict[str, Any]]:
    """Return the user's messages as items, under ids that name nothing."""
    blank = Message("msg_0", "", None, Role.USER, "", 0, "", None, None, 0)
    users = [one for one in said if one.role is Role.USER]
    return [
        item
        for place, one in enumerate(users)
        for item in items_of(replace(blank, id=f"msg_{place:016}", content=one.content))
    ]


def _shown(turn: Turn, users: list[dict[str, Any]]) -> dict[str, Any]:
    summary = {
        "id": item_id(answer_id(turn.id), "cmp"),
        "type": "compaction",
        "encrypted_content": compacted(turn.answer),
    }
    return {
        "id": response_id(turn.id),
        "object": "response.compaction",
        "created_at": turn.created_at // 1_000_000,
        "output": [*users, summary],
        "usage": None if turn.usage is None else usage_of(turn.usage),
    }

"""Conversations and their items as OpenAI's API has them: the same as on every other wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from server.core.completions import labels
from server.core.conversations import Conversations
from server.core.turns.placement import Utterance
from server.openai_protocol.errors import missing, overlong
from server.openai_protocol.fields import Fields
from server.transports.openai.body import read_json
from server.transports.openai.exchange import Exchange
from server.transports.openai.paging import Paging, listed, paging_of
from server.transports.openai.responses.finding import Finding, no_item
from server.transports.openai.responses.ids import places
from server.transports.openai.responses.input import input_of, utterances
from server.transports.openai.responses.items import items_of
from storage.model import Conversation, Message, Role

#: Items that one request may add.
MOST_ITEMS: Final = 20


class ConversationRoutes:
    """The routes of conversations, and of the items in the branch of their head."""

    def __init__(self, conversations: Conversations, finding: Finding) -> None:
        self._conversations = conversations
        self._items = conversations.items
        self._finding = finding

    async def create(self, exchange: Exchange) -> None:
        body = await exchange.body.read()
        asked = read_json(body) if body else Fields({})
        said = await self._said(exchange, asked) if asked.raw("items") else ()
        metadata = asked.part("metadata")
        made = await self._items.create(
            exchange.request.owner, labels(metadata.values if metadata else {}), said
        )
        await exchange.answer(_shown(made))

    async def read(self, exchange: Exchange) -> None:
        await exchange.answer(_shown(await self._found(exchange)))

    async def change(self, exchange: Exchange) -> None:
        """Put metadata in the place of what there was."""
        asked = read_json(await exchange.body.read())
        if (metadata := asked.part("metadata")) is None:
            raise missing("metadata")
        there = await self._found(exchange)
        changed = await self._conversations.update(
            exchange.request.owner, there.id, {"metadata": labels(metadata.values)}
        )
        await exchange.answer(_shown(changed))

    async def delete(self, exchange: Exchange) -> None:
        """Delete a conversation, and stop what runs in it."""
        there = await self._found(exchange)
        await self._conversations.delete(exchange.request.owner, there.id)
        gone = {"id": there.id, "object": "conversation.deleted", "deleted": True}
        await exchange.answer(gone)

    async def add_items(self, exchange: Exchange) -> None:
        """Put items under what there is, once no turn is being written."""
        asked = read_json(await exchange.body.read())
        asked.required("items")
        there = await self._found(exchange)
        said = await self._said(exchange, asked)
        added = await self._items.add(exchange.request.owner, there.id, said)
        shown = [item for message in added for item in items_of(message)]
        await exchange.answer(listed(shown, more=False))

    async def list_items(self, exchange: Exchange) -> None:
        """Show a page of the items in the branch of the head."""
        there = await self._found(exchange)
        asked = paging_of(exchange.request.query, "desc")
        behind = await self._within(exchange, there, asked.after) if asked.after else None
        page = self._oldest if asked.oldest_first else self._newest
        found = await page(exchange.request.owner, there, asked, behind)
        await exchange.answer(listed(found[: asked.limit], more=len(found) > asked.limit))

    async def read_item(self, exchange: Exchange) -> None:
        there = await self._found(exchange)
        _, item = await self._within(exchange, there, exchange.request.names["item"])
        await exchange.answer(item)

    async def delete_item(self, exchange: Exchange) -> None:
        """Erase what an item says; the conversation is as if it had not been said."""
        there, id_ = await self._found(exchange), exchange.request.names["item"]
        message, _ = await self._within(exchange, there, id_)
        place = None
        if message.role is Role.ASSISTANT:
            place = next(at for name, at in places(id_) if name == message.id)
        await self._items.erase(exchange.request.owner, message, place)
        await exchange.answer(_shown(there))

    async def _found(self, exchange: Exchange) -> Conversation:
        return await self._finding.conversation(exchange.request, exchange.request.names["id"])

    async def _within(
        self, exchange: Exchange, there: Conversation, id_: str
    ) -> tuple[Message, dict[str, Any]]:
        message, item = await self._finding.item(exchange.request, id_)
        if message.conversation_id != there.id:
            raise no_item(id_)
        return message, item

    async def _said(self, exchange: Exchange, asked: Fields) -> Sequence[Utterance]:
        items = input_of(asked, "items")
        if len(items) > MOST_ITEMS:
            raise overlong("items", MOST_ITEMS, len(items))
        return utterances(await self._finding.resolved(exchange.request, items))

    async def _newest(
        self,
        owner: str,
        there: Conversation,
        asked: Paging,
        behind: tuple[Message, dict[str, Any]] | None,
    ) -> list[dict[str, Any]]:
        """Return items from the head up, one more than are asked for where there is one."""
        found: list[dict[str, Any]] = []
        leaf = there.head_id
        if behind is not None:
            found += _beyond(items_of(behind[0])[::-1], behind[1])
            leaf = behind[0].parent_id
        while leaf is not None and len(found) <= asked.limit:
            step = await self._items.upwards(owner, there.id, leaf, asked.limit + 1)
            found += [item for message in step for item in items_of(message)[::-1]]
            leaf = step[-1].parent_id
        return found

    async def _oldest(
        self,
        owner: str,
        there: Conversation,
        asked: Paging,
        behind: tuple[Message, dict[str, Any]] | None,
    ) -> list[dict[str, Any]]:
        """Return items from the root down, one more than are asked for where there is one."""
        found: list[dict[str, Any]] = []
        depth = 0
        if behind is not None:
            found += _beyond(items_of(behind[0]), behind[1])
            depth = behind[0].depth
        while len(found) <= asked.limit:
            step = await self._items.downwards(
                owner, there.id, there.head_id, depth, asked.limit + 1
            )
            if not step:
                break
            found += [item for message in step for item in items_of(message)]
            depth = step[-1].depth
        return found


def _beyond(items: list[dict[str, Any]], last: dict[str, Any]) -> list[dict[str, Any]]:
    return items[items.index(last) + 1 :]


def _shown(of: Conversation) -> dict[str, Any]:
    """Return a conversation; what another wire keeps with it may be any JSON."""
    metadata = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in of.metadata.items()
    }
    created = of.created_at // 1_000_000
    return {"id": of.id, "object": "conversation", "created_at": created, "metadata": metadata}

"""Pages of a list as JSON, the same for REST and websocket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.core import rendering
from storage.model import Conversation, Hit, Message, Page


def conversations(of: Page[Conversation]) -> dict[str, Any]:
    ids = [one.id for one in of.items]
    return _listed([rendering.conversation(one) for one in of.items], ids, of.has_more)


def messages(of: Page[Message]) -> dict[str, Any]:
    ids = [one.id for one in of.items]
    return _listed([rendering.message(one) for one in of.items], ids, of.has_more)


def hits(of: Page[Hit]) -> dict[str, Any]:
    ids = [hit.message.id if hit.message else hit.conversation_id for hit in of.items]
    return _listed([rendering.hit(hit) for hit in of.items], ids, of.has_more)


def _listed(data: list[dict[str, Any]], ids: Sequence[str], has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": has_more,
    }

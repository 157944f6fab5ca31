"""Events as JSON, the same for SSE and websocket."""

from __future__ import annotations

from typing import Any

from server.core.rendering import (
    conversation,
    delta,
    hit,
    message,
    preview,
    time,
    turn,
    waiting,
)
from server.live.news import ConversationEvent, News, Resync
from server.live.turn import Delta, Ended, Progress, Started
from server.live.waiting import QueueChanged

__all__ = ["conversation", "event", "hit", "message", "preview", "time", "turn"]


def event(of: News) -> dict[str, Any]:
    """Return an event as the object every JSON wire sends."""
    match of:
        case Delta():
            return {"type": "turn.delta", **_whose(of), "cursor": of.cursor, **delta(of)}
        case Progress():
            return {"type": "turn.progress", **_whose(of), "read": of.read, "total": of.total}
        case Started() | Ended():
            return {
                "type": "turn.started" if isinstance(of, Started) else "turn.ended",
                "conversation_id": of.turn.conversation_id,
                "turn_id": of.turn.id,
                "cursor": of.cursor,
                "turn": turn(of.turn),
            }
        case ConversationEvent():
            return {
                "type": f"conversation.{of.fate}",
                "conversation_id": of.conversation.id,
                "conversation": conversation(of.conversation),
            }
        case QueueChanged():
            return {
                "type": "queue.changed",
                "conversation_id": of.conversation_id,
                "waiting": [waiting(one) for one in of.line.waiting],
                "count": of.line.count,
            }
        case Resync():
            return {"type": "resync"}


def _whose(of: Delta | Progress) -> dict[str, str]:
    return {"conversation_id": of.conversation_id, "turn_id": of.turn_id}

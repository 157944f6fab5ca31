"""Turn events as JSON, the same for SSE and websocket."""

from __future__ import annotations

from typing import Any

from server.core.rendering import conversation, delta, hit, message, preview, time, turn
from server.live.turn import Delta, Ended, Started, TurnEvent

__all__ = ["conversation", "event", "hit", "message", "preview", "time", "turn"]


def event(of: TurnEvent) -> dict[str, Any]:
    """Return a turn event as the object every JSON wire sends."""
    match of:
        case Delta():
            return {
                "type": "turn.delta",
                "conversation_id": of.conversation_id,
                "turn_id": of.turn_id,
                "cursor": of.cursor,
                **delta(of),
            }
        case Started() | Ended():
            return {
                "type": "turn.started" if isinstance(of, Started) else "turn.ended",
                "conversation_id": of.turn.conversation_id,
                "turn_id": of.turn.id,
                "cursor": of.cursor,
                "turn": turn(of.turn),
            }

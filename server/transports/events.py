"""Nouns and turn events as JSON, the same for REST, SSE and websocket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from server.core.turns import Delta, Ended, Started, TurnEvent
from storage.model import Conversation, Message, Turn


def time(micros: int | None) -> str | None:
    """Return microseconds since 1970 as RFC 3339 in UTC."""
    if micros is None:
        return None
    seconds, fraction = divmod(micros, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:06d}Z"


def conversation(of: Conversation) -> dict[str, Any]:
    return {
        "id": of.id,
        "object": "conversation",
        "title": of.title,
        "system_prompt": of.system_prompt,
        "model": of.model,
        "metadata": dict(of.metadata),
        "truncation": of.truncation,
        "created_at": time(of.created_at),
        "updated_at": time(of.updated_at),
        "message_count": of.message_count,
        "head_id": of.head_id,
    }


def message(of: Message) -> dict[str, Any]:
    return {
        "id": of.id,
        "object": "message",
        "conversation_id": of.conversation_id,
        "parent_id": of.parent_id,
        "role": of.role.value,
        "content": of.content if isinstance(of.content, str) else [dict(p) for p in of.content],
        "tokens": of.tokens,
        "model": of.model,
        "turn_id": of.turn_id,
        "created_at": time(of.created_at),
    }


def turn(of: Turn) -> dict[str, Any]:
    usage, error = of.usage, of.error
    return {
        "id": of.id,
        "object": "turn",
        "conversation_id": of.conversation_id,
        "status": of.status.value,
        "model": of.model,
        "parent_id": of.parent_id,
        "question_id": of.question_id,
        "answer_id": of.answer_id,
        "answer": of.answer,
        "finish_reason": of.finish_reason,
        "usage": usage
        and {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        },
        "context": {
            "window": of.context.window,
            "budget": of.context.budget,
            "prompt_tokens": of.context.prompt_tokens,
            "messages_included": of.context.messages_included,
            "messages_trimmed": of.context.messages_trimmed,
        },
        "error": error and {"code": error.code, "message": error.message},
        "created_at": time(of.created_at),
        "ended_at": time(of.ended_at),
    }


def event(of: TurnEvent) -> dict[str, Any]:
    """Return a turn event as the object every JSON wire sends."""
    match of:
        case Delta():
            return {
                "type": "turn.delta",
                "conversation_id": of.conversation_id,
                "turn_id": of.turn_id,
                "cursor": of.cursor,
                "text": of.text,
            }
        case Started() | Ended():
            return {
                "type": "turn.started" if isinstance(of, Started) else "turn.ended",
                "conversation_id": of.turn.conversation_id,
                "turn_id": of.turn.id,
                "cursor": of.cursor,
                "turn": turn(of.turn),
            }

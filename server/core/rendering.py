"""Nouns as JSON, the same on every wire and in what is exported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from server.core.prompt.preview import Preview
from server.live.turn import Delta
from server.live.waiting import Waiting
from server.openai_protocol.usage_fields import details_of
from storage.model import Conversation, Hit, Message, Role, Turn
from storage.parts import Kind


def time(micros: int | None) -> str | None:
    """Return microseconds since 1970 as RFC 3339 in UTC."""
    if micros is None:
        return None
    seconds, fraction = divmod(micros, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:06d}Z"


def micros(moment: datetime | None) -> int | None:
    """Return a time as microseconds since 1970; one without a zone is in UTC."""
    if moment is None:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (zoned - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


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
        "last_message_at": time(of.last_message_at),
        "pinned": of.pinned,
    }


def waiting(of: Waiting) -> dict[str, Any]:
    return {"id": of.id, "prompt": of.prompt, "wire": of.wire, "since": time(of.since)}


def message(of: Message) -> dict[str, Any]:
    told: dict[str, Any] = {
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
    if of.role is Role.ASSISTANT and not isinstance(of.content, str):
        told["parts"] = told["content"]
    if of.stands_for is not None:
        told["stands_for"] = of.stands_for
    if of.siblings:
        told["sibling_ids"] = list(of.siblings)
        told["sibling_index"] = of.siblings.index(of.id) if of.id in of.siblings else None
    return told


def turn(of: Turn) -> dict[str, Any]:
    usage, error = of.usage, of.error
    told: dict[str, Any] = {
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
        "usage": usage and details_of(usage),
        "context": {
            "window": of.context.window,
            "budget": of.context.budget,
            "prompt_tokens": of.context.prompt_tokens,
            "messages_included": of.context.messages_included,
            "messages_trimmed": of.context.messages_trimmed,
            "counted": of.context.counted,
            "window_known": of.context.window_known,
            "drift": of.drift,
        },
        "error": error and {"code": error.code, "message": error.message},
        "created_at": time(of.created_at),
        "ended_at": time(of.ended_at),
        "wire": of.wire,
    }
    if of.parts is not None:
        told["parts"] = [dict(part) for part in of.parts]
    return told


def delta(of: Delta) -> dict[str, Any]:
    """What a delta says; `part` is absent in the text that an answer begins with."""
    told: dict[str, Any] = {"text": of.text}
    if of.part is not None:
        told["part"] = {"index": of.index, "type": of.part.kind.value}
        told["part"] |= {} if of.part.id is None else {"id": of.part.id}
        told["part"] |= {} if of.part.name is None else {"name": of.part.name}
        if of.part.kind is not Kind.TEXT:
            told["delta"] = of.delta
    return told


def hit(of: Hit) -> dict[str, Any]:
    return {
        "message": of.message and message(of.message),
        "conversation_id": of.conversation_id,
        "title": of.title,
        "snippet": of.snippet,
        "score": of.score,
    }


def preview(of: Preview) -> dict[str, Any]:
    composed, sent = of.composed, of.composed.sent
    counted = sum(line.tokens for line in of.lines if line.kept)
    return {
        "object": "context",
        "model": composed.scale.model.name,
        "encoding": composed.encoding,
        "counted": sent.counted,
        "window_known": sent.window_known,
        "window": sent.window,
        "reserved": composed.window.reserved,
        "budget": sent.budget,
        "prompt_tokens": sent.prompt_tokens,
        "overhead": sent.prompt_tokens - counted,
        "remaining": of.remaining,
        "messages_included": sent.messages_included,
        "messages_trimmed": sent.messages_trimmed,
        "messages": [
            {
                "id": line.id,
                "role": line.role.value,
                "tokens": line.tokens,
                "overhead": line.overhead,
                "kept": line.kept,
                "reason": line.reason,
            }
            for line in of.lines
        ],
    }

"""The answer of a turn that an earlier request had, told again as a stream of chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.core.conversations import Conversations
from server.openai_protocol.codec import encode
from server.openai_protocol.messages import message_of
from server.openai_protocol.stream import CHAT_CHUNK
from server.openai_protocol.usage_fields import details_of
from storage.model import PromptMessage, Status, Turn, answer_of


async def events_of(conversations: Conversations, owner: str, turn: Turn) -> list[bytes]:
    """Return the events of a turn that ended well, without the stream's own end; else none."""
    if turn.status is not Status.COMPLETED:
        return []
    page = await conversations.messages(owner, turn.conversation_id, leaf=turn.answer_id, limit=1)
    answer = page.items[-1]
    said = message_of(PromptMessage(answer.role, answer.content))
    return [b"data: %b\n\n" % encode(_head(turn) | chunk) for chunk in _chunks(turn, said)]


def _head(turn: Turn) -> dict[str, Any]:
    id_ = f"chatcmpl-{turn.id.removeprefix('turn_')}"
    created = turn.created_at // 1_000_000
    return {"id": id_, "object": CHAT_CHUNK, "created": created, "model": turn.model}


def _chunks(turn: Turn, said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    delta = {name: value for name, value in said.items() if value is not None}
    if "content" in delta:  # of an answer it is one string always
        delta["content"] = answer_of(delta["content"])
    calls = [{"index": number, **call} for number, call in enumerate(said.get("tool_calls", ()))]
    yield _choice(delta | ({"tool_calls": calls} if calls else {}), None)
    yield _choice({}, turn.finish_reason or "stop")
    if (usage := turn.usage) is not None:
        yield {"choices": [], "usage": details_of(usage)}


def _choice(delta: dict[str, Any], ending: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ending}
    return {"choices": [choice]}

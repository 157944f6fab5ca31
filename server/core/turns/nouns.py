"""Makes what the beginning of a turn keeps: its question, and the turn itself."""

from __future__ import annotations

from dataclasses import replace

from server.core.observability.metrics import INTERNAL, WIRE
from server.core.prompt.compose import PromptRequest
from server.core.prompt.composed import Composed
from server.core.turns.questions import Responding
from storage.model import Message, Status, Turn


def asked(
    message_id: str, turn_id: str, request: PromptRequest, composed: Composed, now: int
) -> Message:
    """Return a question that is to be kept."""
    return Message(
        id=message_id,
        conversation_id=request.conversation_id,
        parent_id=request.parent_id,
        role=request.role,
        content=request.content,
        tokens=composed.question_tokens,
        encoding=composed.encoding,
        model=None,
        turn_id=turn_id,
        created_at=now,
        item=request.item,
    )


def as_response(turn: Turn, wanted: Responding | None) -> Turn:
    """Return a turn as it is kept where it was asked as a response of OpenAI's API."""
    return turn if wanted is None else replace(turn, free=wanted.free, record=wanted.record)


def begun(
    turn_id: str,
    question: Message,
    request: PromptRequest,
    composed: Composed,
    now: int,
    wire: str | None = None,
) -> Turn:
    """Return a turn that begins."""
    asked_by = wire or WIRE.get()
    return Turn(
        id=turn_id,
        conversation_id=request.conversation_id,
        status=Status.RUNNING,
        model=request.model,
        parent_id=question.parent_id,
        question_id=question.id,
        answer_id=None,
        answer="",
        context=composed.sent,
        created_at=now,
        options=request.options,
        wire=None if asked_by == INTERNAL else asked_by,
    )

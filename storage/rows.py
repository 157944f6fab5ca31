"""Rows of a schema as nouns, and back: the columns that every adapter selects, in their order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from storage.model import (
    Content,
    ContextUse,
    Conversation,
    Failure,
    Message,
    Role,
    Status,
    Turn,
    Usage,
)
from storage.parts import content_of, marks_of
from storage.port import Claim, IdempotencyMismatchError

CONVERSATION_FROM = """
    SELECT c.id, c.title, c.system_prompt, c.model, c.metadata, c.created_at, c.updated_at,
           c.message_count, (SELECT id FROM messages WHERE key = c.head), c.truncation, c.pinned,
           CASE c.message_count WHEN 0 THEN NULL ELSE COALESCE(c.active_at, c.updated_at) END,
           c.unlisted
    FROM
"""
CONVERSATION = f"{CONVERSATION_FROM} conversations c"
#: Where such a row has the title.
TITLE = 1

MESSAGE_COLUMNS = """
    m.id, c.id, p.id, m.role, m.is_parts, m.content, m.tokens, m.encoding, m.model, m.turn_id,
    m.created_at, m.depth, m.stands_for, m.item
"""

#: What is said beside a content that another is put in the place of: a compaction's has its words.
ITEM_LEFT = "CASE role WHEN 'assistant' THEN item END"

MESSAGE = f"""
    SELECT {MESSAGE_COLUMNS}
    FROM messages m JOIN conversations c ON c.key = m.conversation
    LEFT JOIN messages p ON p.key = m.parent
"""


def turn_selection(so_far: str, marks: str) -> str:
    """Return what selects turns; `so_far` is the row that is checkpointed of the running `t`, and
    `marks` the lines of its marks.
    """
    return f"""
    SELECT t.id, c.id, t.status, t.model, p.id, q.id, a.id,
           CASE t.status WHEN 'running' THEN ({so_far}) ELSE a.content END,
           t.context_window, t.context_budget, t.context_prompt_tokens, t.context_included,
           t.context_trimmed, t.created_at, t.finish_reason, t.prompt_tokens, t.completion_tokens,
           t.error_code, t.error_message, t.error_status, t.ended_at, t.drift,
           a.is_parts, t.context_counted, t.context_window_known,
           CASE t.status WHEN 'running' THEN ({marks}) END, t.cached_tokens, t.reasoning_tokens,
           t.options, t.wire, t.free, r.record, r.deleted
    FROM turns t JOIN conversations c ON c.key = t.conversation
    JOIN messages q ON q.key = t.question
    LEFT JOIN messages p ON p.key = q.parent
    LEFT JOIN messages a ON a.key = t.answer
    LEFT JOIN responses r ON r.turn = t.key
"""


def conversation(row: tuple[Any, ...]) -> Conversation:
    return Conversation(
        id=row[0],
        title=row[1],
        system_prompt=row[2],
        model=row[3],
        metadata=json.loads(row[4]),
        created_at=row[5],
        updated_at=row[6],
        message_count=row[7],
        head_id=row[8],
        truncation=row[9],
        pinned=bool(row[10]),
        last_message_at=row[11],
        unlisted=bool(row[12]),
    )


def message(row: tuple[Any, ...]) -> Message:
    return Message(
        id=row[0],
        conversation_id=row[1],
        parent_id=row[2],
        role=Role(row[3]),
        content=json.loads(row[5]) if row[4] else row[5],
        tokens=row[6],
        encoding=row[7],
        model=row[8],
        turn_id=row[9],
        created_at=row[10],
        depth=row[11],
        stands_for=row[12],
        item=_object(row[13]),
    )


def turn(row: tuple[Any, ...]) -> Turn:
    usage = None if row[15] is None else Usage(row[15], row[16], row[26], row[27])
    error = None if row[17] is None else Failure(row[17], row[18], row[19])
    return Turn(
        id=row[0],
        conversation_id=row[1],
        status=Status(row[2]),
        model=row[3],
        parent_id=row[4],
        question_id=row[5],
        answer_id=row[6],
        answer="",
        context=_sent(row),
        created_at=row[13],
        finish_reason=row[14],
        usage=usage,
        error=error,
        ended_at=row[20],
        drift=row[21],
        options=_object(row[28]) or {},
        wire=row[29],
        free=bool(row[30]),
        record=_object(row[31]),
        deleted=bool(row[32]),
    ).saying(_said(row[7] or "", row[22], row[25]))


def _said(content: str, is_parts: int | bool | None, marks: str | None) -> Content:
    """Return an answer that is kept, or of one that is written the row so far."""
    if is_parts:
        return json.loads(content)  # type: ignore[no-any-return]
    return content_of(content, marks_of(marks))


def claimed(row: tuple[Any, ...] | None, claim: Claim) -> str | None:
    """Return the id of the turn that a key stands for, of a row of its fingerprint and that id.

    Raises IdempotencyMismatchError where it was used for another request.
    """
    if row is None:
        return None
    fingerprint, turn_id = row
    if fingerprint != claim.fingerprint:
        raise IdempotencyMismatchError(
            "This idempotency key was used for another request.", "idempotency-key"
        )
    return str(turn_id)


def _sent(row: tuple[Any, ...]) -> ContextUse:
    counted, known = row[23:25]
    sent = ContextUse(*row[8:13])
    return replace(sent, counted=counted, window_known=None if known is None else bool(known))


def content_columns(content: Content) -> tuple[int, str]:
    """Return `is_parts` and the text that stands for a content."""
    if isinstance(content, str):
        return 0, content
    return 1, json_text([dict(part) for part in content])


def json_text(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def options_column(turn: Turn) -> str | None:
    """Return what was offered for a turn as it is kept; None where nothing was."""
    return json_text(dict(turn.options)) if turn.options else None


def object_column(value: Mapping[str, Any] | None) -> str | None:
    """Return an object as it is kept, where there is one."""
    return None if value is None else json_text(value)


def _object(kept: str | None) -> dict[str, Any] | None:
    return None if kept is None else json.loads(kept)

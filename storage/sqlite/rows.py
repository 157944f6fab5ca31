"""What is selected of the SQLite schema for each noun (see `storage.rows`)."""

from __future__ import annotations

from storage.rows import content_columns, conversation, json_text, message, turn

__all__ = [
    "CONVERSATION",
    "CONVERSATION_FROM",
    "MESSAGE",
    "MESSAGE_COLUMNS",
    "TITLE",
    "TURN",
    "content_columns",
    "conversation",
    "json_text",
    "message",
    "turn",
]

CONVERSATION_FROM = """
    SELECT c.id, c.title, c.system_prompt, c.model, c.metadata, c.created_at, c.updated_at,
           c.message_count, (SELECT id FROM messages WHERE key = c.head), c.truncation
    FROM
"""
CONVERSATION = f"{CONVERSATION_FROM} conversations c"
#: Where such a row has the title.
TITLE = 1

MESSAGE_COLUMNS = """
    m.id, c.id, p.id, m.role, m.is_parts, m.content, m.tokens, m.encoding, m.model, m.turn_id,
    m.created_at, m.depth, m.stands_for
"""

MESSAGE = f"""
    SELECT {MESSAGE_COLUMNS}
    FROM messages m JOIN conversations c ON c.key = m.conversation
    LEFT JOIN messages p ON p.key = m.parent
"""

TURN = """
    SELECT t.id, c.id, t.status, t.model, p.id, q.id, a.id,
           CASE t.status WHEN 'running' THEN (
               SELECT group_concat(text, '')
               FROM (SELECT text FROM checkpoints WHERE turn = t.key ORDER BY position)
           ) ELSE a.content END,
           t.context_window, t.context_budget, t.context_prompt_tokens, t.context_included,
           t.context_trimmed, t.created_at, t.finish_reason, t.prompt_tokens, t.completion_tokens,
           t.error_code, t.error_message, t.error_status, t.ended_at, t.drift,
           a.is_parts, t.context_counted, t.context_window_known
    FROM turns t JOIN conversations c ON c.key = t.conversation
    JOIN messages q ON q.key = t.question
    LEFT JOIN messages p ON p.key = q.parent
    LEFT JOIN messages a ON a.key = t.answer
"""

"""The transaction that takes a turn back, as if it had not been begun."""

from __future__ import annotations

import sqlite3

from storage.model import Status
from storage.sqlite import conversations, turns
from storage.sqlite.fulltext import index


def withdraw(
    connection: sqlite3.Connection, owner: str, turn_id: str, head_id: str | None, title: str
) -> None:
    """Take back a running turn with all that was kept with it; see Store."""
    key = turns.turn_key(connection, owner, turn_id)
    status, conversation, question, began, beside = connection.execute(
        """
        SELECT t.status, t.conversation, t.question, t.created_at,
            t.free IS NOT NULL AND c.unlisted IS NULL
        FROM turns t JOIN conversations c ON c.key = t.conversation WHERE t.key = ?
        """,
        (key,),
    ).fetchone()
    if status != Status.RUNNING:
        return
    for table in ("checkpoints", "claims", "responses"):
        connection.execute(f"DELETE FROM {table} WHERE turn = ?", (key,))
    connection.execute("DELETE FROM turns WHERE key = ?", (key,))
    left = _take_back(connection, conversation, question, turn_id, began)
    if left != question and not beside:
        former = "(SELECT key FROM messages WHERE owner = ? AND id = ? AND conversation = ?)"
        connection.execute(
            f"UPDATE conversations SET head = coalesce({former}, ?) WHERE key = ?",
            (owner, head_id, conversation, left, conversation),
        )
        connection.execute(
            "UPDATE conversations SET active_at = coalesce("
            "(SELECT created_at FROM messages WHERE key = head), created_at) WHERE key = ?",
            (conversation,),
        )
    _forget_if_new(connection, conversation, began, title)


def _take_back(
    connection: sqlite3.Connection, conversation: int, question: int, turn_id: str, began: int
) -> int | None:
    """Delete a turn's question, and what was kept before it; return the message that is left."""
    at: int | None = question
    while at is not None:
        parent, of_turn, created, is_parts, content = connection.execute(
            "SELECT parent, turn_id, created_at, is_parts, content FROM messages WHERE key = ?",
            (at,),
        ).fetchone()
        own = of_turn == turn_id or (at != question and of_turn is None and created == began)
        below = "SELECT 1 FROM messages WHERE conversation = ? AND parent = ?"
        if not own or connection.execute(below, (conversation, at)).fetchone():
            return at
        index.remove(connection, "message", at, conversations.searchable(is_parts, content))
        connection.execute("DELETE FROM messages WHERE key = ?", (at,))
        connection.execute(
            """
            UPDATE conversations SET message_count = message_count - 1,
                head = CASE head WHEN ? THEN ? ELSE head END
            WHERE key = ?
            """,
            (at, parent, conversation),
        )
        at = parent
    return None


def _forget_if_new(
    connection: sqlite3.Connection, conversation: int, began: int, title: str
) -> None:
    """Delete the conversation that a turn made, or take its title back from an empty one."""
    created, messages, named = connection.execute(
        "SELECT created_at, message_count, title FROM conversations WHERE key = ?", (conversation,)
    ).fetchone()
    if messages:
        return
    if created == began:
        index.remove(connection, "title", conversation, named)
        connection.execute("DELETE FROM conversations WHERE key = ?", (conversation,))
    elif named == title:
        conversations.retitle(connection, conversation, "")

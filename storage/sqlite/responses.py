"""What turns are as responses of OpenAI's API, on SQLite: plain functions of its connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from storage import rows
from storage.model import Message
from storage.port import NotFoundError
from storage.sqlite import conversations, turns


def delete(connection: sqlite3.Connection, owner: str, turn_id: str) -> str | None:
    """Delete a turn as a response; return its conversation where that is left without any."""
    key = turns.turn_key(connection, owner, turn_id)
    connection.execute(
        """
        INSERT INTO responses (turn, deleted) VALUES (?, 1)
        ON CONFLICT (turn) DO UPDATE SET record = NULL, deleted = 1
        """,
        (key,),
    )
    row = connection.execute(
        """
        SELECT c.id FROM turns one JOIN conversations c ON c.key = one.conversation
        WHERE one.key = ? AND c.unlisted IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM turns t LEFT JOIN responses r ON r.turn = t.key
            WHERE t.conversation = c.key AND coalesce(r.deleted, 0) = 0
        )
        """,
        (key,),
    ).fetchone()
    return row and str(row[0])


def expired(connection: sqlite3.Connection, before: int, limit: int) -> Sequence[tuple[str, str]]:
    """Return unlisted conversations that nothing was written to since, with their owners."""
    found = connection.execute(
        """
        SELECT owner, id FROM conversations
        WHERE unlisted IS NOT NULL AND updated_at < ? AND owner <> ? ORDER BY updated_at LIMIT ?
        """,
        (before, conversations.NOBODY, limit),
    )
    return [(owner, id_) for owner, id_ in found]


def find_message(connection: sqlite3.Connection, owner: str, message_id: str) -> Message:
    """Return a message of an owner, in whatever conversation."""
    row = connection.execute(
        f"{rows.MESSAGE} WHERE m.owner = ? AND m.id = ? AND c.owner = m.owner",
        (owner, message_id),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no message {message_id!r}.")
    return rows.message(row)

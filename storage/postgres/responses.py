"""What turns are as responses of OpenAI's API, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from storage import rows
from storage.model import Message
from storage.port import NotFoundError
from storage.postgres import conversations
from storage.postgres.database import Database


async def delete(db: Database, owner: str, turn_id: str) -> str | None:
    """Delete a turn as a response; return its conversation where that is left without any."""
    found = await db.row(
        """
        WITH one AS MATERIALIZED (
            SELECT t.key, c.key AS conversation, c.id, c.unlisted
            FROM turns t JOIN conversations c ON c.key = t.conversation
            WHERE t.owner = :owner AND t.id = :turn AND c.owner = t.owner
            FOR NO KEY UPDATE OF c
        ), gone AS (
            INSERT INTO responses (turn, deleted) SELECT key, true FROM one
            ON CONFLICT (turn) DO UPDATE SET record = NULL, deleted = true
        )
        SELECT CASE WHEN one.unlisted AND NOT EXISTS (
            SELECT FROM turns t LEFT JOIN responses r ON r.turn = t.key
            WHERE t.conversation = one.conversation AND t.key <> one.key
            AND NOT COALESCE(r.deleted, false)
        ) THEN one.id END FROM one
        """,
        owner=owner,
        turn=turn_id,
    )
    if found is None:
        raise NotFoundError(f"There is no turn {turn_id!r}.", "turn_id")
    return None if found[0] is None else str(found[0])


async def expired(db: Database, before: int, limit: int) -> Sequence[tuple[str, str]]:
    """Return unlisted conversations that nothing was written to since, with their owners."""
    found = await db.rows(
        f"""
        SELECT owner, id FROM conversations
        WHERE unlisted AND updated_at < :before AND owner <> {conversations.NOBODY}
        ORDER BY updated_at LIMIT :limit
        """,
        before=before,
        limit=limit,
    )
    return [(owner, id_) for owner, id_ in found]


async def find_message(db: Database, owner: str, message_id: str) -> Message:
    """Return a message of an owner, in whatever conversation."""
    found = await db.row(
        f"{rows.MESSAGE} WHERE m.owner = :owner AND m.id = :id AND c.owner = m.owner",
        owner=owner,
        id=message_id,
    )
    if found is None:
        raise NotFoundError(f"There is no message {message_id!r}.")
    return rows.message(found)

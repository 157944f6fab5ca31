"""What turns are as responses of OpenAI's API, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from storage import rows
from storage.model import Content, Message
from storage.port import NotFoundError
from storage.postgres import conversations, messages, terms
from storage.postgres.database import Database
from storage.ranking import text_of


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


async def append(
    db: Database,
    owner: str,
    conversation_id: str,
    said: Sequence[Message],
    title: str,
    now: int,
) -> None:
    """Keep messages of no turn, the last of which becomes the head."""
    untitled = "(c.title = '' AND c.message_count = 0 AND :new_title <> '')"
    try:
        kept = await db.row(
            f"""
            WITH held AS MATERIALIZED (
                SELECT key FROM conversations WHERE owner = :owner AND id = :conversation
                FOR NO KEY UPDATE
            ), ready AS MATERIALIZED (SELECT count(*) FROM held),
            {messages.NUMBERED}, there AS (
                UPDATE conversations c SET
                    title = CASE WHEN {untitled} THEN :new_title ELSE c.title END,
                    words = CASE WHEN {untitled} THEN :new_words::text::tsvector ELSE c.words END,
                    head = (SELECT max(key) FROM numbered), updated_at = :now,
                    message_count = c.message_count + (SELECT count(*) FROM numbered)
                FROM held WHERE c.key = held.key AND c.owner = :owner RETURNING c.key
            ), {messages.KEPT} SELECT count(*) FROM there
            """,
            owner=owner,
            conversation=conversation_id,
            new_title=title,
            new_words=terms.vector(title),
            now=now,
            **await messages.given(said),
        )
    except asyncpg.CheckViolationError as error:
        raise messages.no_message(said[0].parent_id) from error
    if not (kept and kept[0]):
        raise NotFoundError(f"There is no conversation {conversation_id!r}.", "conversation_id")


async def downwards(
    db: Database, owner: str, conversation_id: str, leaf_id: str, below: int, limit: int
) -> Sequence[Message]:
    """Read by depth where nothing branches there, else by a walk up from the leaf over keys."""
    level = "m.conversation = leaf.conversation AND m.depth > :below AND m.depth <= leaf.last"
    found = await db.rows(
        f"""
        WITH RECURSIVE leaf AS MATERIALIZED (
            SELECT m.key, m.parent, m.depth, m.conversation,
                LEAST(m.depth, :below::bigint + :limit::bigint) AS last
            FROM messages m JOIN conversations c ON c.key = m.conversation
            WHERE m.owner = :owner AND m.id = :leaf AND c.owner = m.owner AND c.id = :conversation
        ), branched AS MATERIALIZED (
            SELECT count(*) > count(DISTINCT m.depth) AS it
            FROM leaf JOIN messages m ON {level} AND m.stands_for IS NULL
        ), up (key, parent, depth) AS (
            SELECT key, parent, depth FROM leaf CROSS JOIN branched WHERE branched.it
            UNION ALL
            SELECT m.key, m.parent, m.depth FROM up JOIN messages m ON m.key = up.parent
            WHERE up.depth > :below + 1
        )
        SELECT {rows.MESSAGE_COLUMNS}
        FROM leaf CROSS JOIN branched JOIN messages m ON {level}
            AND (CASE WHEN branched.it THEN m.key IN (SELECT key FROM up)
                ELSE m.stands_for IS NULL END)
        JOIN conversations c ON c.key = m.conversation
        LEFT JOIN messages p ON p.key = m.parent
        ORDER BY m.depth
        """,
        owner=owner,
        conversation=conversation_id,
        leaf=leaf_id,
        below=below,
        limit=limit,
    )
    if not found:
        await messages.message(db, owner, conversation_id, leaf_id)
    return [rows.message(row) for row in found]


async def rewrite(
    db: Database,
    owner: str,
    conversation_id: str,
    message_id: str,
    content: Content,
    tokens: int,
) -> None:
    """Put another content in the place of a message's."""
    is_parts, text = rows.content_columns(content)
    said = text_of(content)
    changed = await db.row(
        f"""
        UPDATE messages m SET is_parts = :is_parts, content = :content, spoken = :spoken,
            words = :words::text::tsvector, tokens = :tokens, item = {rows.ITEM_LEFT}
        WHERE m.owner = :owner AND m.id = :id AND m.conversation = {conversations.NAMED}
        RETURNING m.key
        """,
        owner=owner,
        conversation=conversation_id,
        id=message_id,
        is_parts=bool(is_parts),
        content=text,
        spoken=said if is_parts else None,
        words=terms.vector(said),
        tokens=tokens,
    )
    if changed is None:
        raise messages.no_message(message_id)

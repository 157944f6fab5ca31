"""Messages of PostgreSQL: how many are kept by one statement, and how they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from storage import rows
from storage.model import Message
from storage.port import NotFoundError
from storage.postgres import terms
from storage.postgres.database import Database
from storage.ranking import text_of

#: Texts of more characters are looked through for words on a thread of their own.
LONG = 20_000

#: Numbers the messages to be kept, once the one row of `ready` is there: what that waits for, the
#: lock of their conversation, is ours by then, so that keys are in the order of commits.
NUMBERED = """
numbered AS MATERIALIZED (
    SELECT nextval('message_keys') AS key, given.* FROM (
        SELECT m.* FROM ready CROSS JOIN unnest(
            :ids::text[], :parent_ids::text[], :root_ids::text[], :below::integer[],
            :roles::text[], :is_parts::boolean[], :contents::text[], :spoken::text[],
            :words::text[], :tokens::bigint[], :encodings::text[], :models::text[],
            :turn_ids::text[], :stands_for::bigint[], :created::bigint[], :items::text[]
        ) WITH ORDINALITY AS m (
            id, parent_id, root_id, below, role, is_parts, content, spoken, words, tokens,
            encoding, model, turn_id, stands_for, created_at, item, place
        ) ORDER BY m.place
    ) given
)"""
#: Keeps them in the conversation whose key is in `there`; refused where a parent is not in it.
KEPT = """
kept AS (
    INSERT INTO messages (key, conversation, parent, depth, tokens, encoding, role, created_at,
        owner, id, model, turn_id, stands_for, is_parts, content, spoken, words, item)
    SELECT n.key, there.key, COALESCE(above.key, root.key),
        CASE WHEN n.root_id IS NULL THEN 0 ELSE COALESCE(root.depth, 1) END + n.below,
        n.tokens, n.encoding, n.role, n.created_at, :owner, n.id, n.model, n.turn_id,
        n.stands_for, n.is_parts, n.content, n.spoken, n.words::tsvector, n.item
    FROM there CROSS JOIN numbered n
    LEFT JOIN numbered above ON above.id = n.parent_id AND above.key < n.key
    LEFT JOIN messages root ON root.owner = :owner AND root.id = n.root_id
        AND root.conversation = there.key
    RETURNING key, id
)"""

#: The same for one message, as most are kept: half the work of the database's.
NUMBERED_ONE = "numbered AS MATERIALIZED (SELECT nextval('message_keys') AS key FROM ready)"
KEPT_ONE = """
kept AS (
    INSERT INTO messages (key, conversation, parent, depth, tokens, encoding, role, created_at,
        owner, id, model, turn_id, stands_for, is_parts, content, spoken, words, item)
    SELECT n.key, there.key, above.key,
        COALESCE(above.depth, CASE WHEN :parent_id::text IS NULL THEN 0 ELSE 1 END) + 1,
        :tokens::bigint, :encoding, :role, :created::bigint, :owner, :id, :model_said, :turn_id,
        :stands_for::bigint, :is_parts::boolean, :content, :spoken, :words::text::tsvector, :item
    FROM there CROSS JOIN numbered n
    LEFT JOIN messages above ON above.owner = :owner AND above.id = :parent_id
        AND above.conversation = there.key
    RETURNING key, id
)"""


async def given_one(one: Message) -> Mapping[str, Any]:
    """Return the values of `KEPT_ONE` for a message."""
    is_parts, content = rows.content_columns(one.content)
    (words,) = await vectors([text_of(one.content)])
    return {
        "id": one.id,
        "parent_id": one.parent_id,
        "role": one.role,
        "is_parts": bool(is_parts),
        "content": content,
        "spoken": spoken(one),
        "words": words,
        "tokens": one.tokens,
        "encoding": one.encoding,
        "model_said": one.model,
        "turn_id": one.turn_id,
        "stands_for": one.stands_for,
        "created": one.created_at,
        "item": rows.object_column(one.item),
    }


async def given(said: Sequence[Message]) -> Mapping[str, Any]:
    """Return the values of `NUMBERED` for messages, each behind its parent if that is among them.

    Each names its nearest forebear that is not, and how far it stands below.
    """
    places: dict[str, tuple[str | None, int]] = {}
    for one in said:
        root, below = places.get(one.parent_id or "", (one.parent_id, 0))
        places[one.id] = (root, below + 1)
    contents = [rows.content_columns(one.content) for one in said]
    return {
        "ids": [one.id for one in said],
        "parent_ids": [one.parent_id for one in said],
        "root_ids": [places[one.id][0] for one in said],
        "below": [places[one.id][1] for one in said],
        "roles": [one.role for one in said],
        "is_parts": [bool(is_parts) for is_parts, _ in contents],
        "contents": [content for _, content in contents],
        "spoken": [spoken(one) for one in said],
        "words": await vectors([text_of(one.content) for one in said]),
        "tokens": [one.tokens for one in said],
        "encodings": [one.encoding for one in said],
        "models": [one.model for one in said],
        "turn_ids": [one.turn_id for one in said],
        "stands_for": [one.stands_for for one in said],
        "created": [one.created_at for one in said],
        "items": [rows.object_column(one.item) for one in said],
    }


def spoken(one: Message) -> str | None:
    """Return what can be searched of a message, where that is not its content."""
    return None if isinstance(one.content, str) else text_of(one.content)


async def vectors(texts: Sequence[str]) -> list[str]:
    """Return the words of each text as a tsvector is written."""
    if sum(map(len, texts)) <= LONG:
        return [terms.vector(text) for text in texts]
    return await asyncio.to_thread(lambda: [terms.vector(text) for text in texts])


def no_message(message_id: str | None) -> NotFoundError:
    return NotFoundError(f"There is no message {message_id!r} in this conversation.")


async def message(db: Database, owner: str, conversation_id: str, message_id: str) -> Message:
    found = await db.row(
        f"{rows.MESSAGE} WHERE m.owner = :owner AND m.id = :id AND c.owner = m.owner "
        "AND c.id = :conversation",
        owner=owner,
        id=message_id,
        conversation=conversation_id,
    )
    if found is None:
        raise no_message(message_id)
    return rows.message(found)


async def branch(
    db: Database, owner: str, conversation_id: str, leaf_id: str, limit: int, tokens: int | None
) -> Sequence[Message]:
    found = await db.rows(
        f"""
        WITH RECURSIVE branch (place, key, parent, total) AS (
            SELECT 1, m.key, m.parent, m.tokens::numeric
            FROM messages m JOIN conversations c ON c.key = m.conversation
            WHERE m.owner = :owner AND m.id = :leaf AND c.owner = m.owner AND c.id = :conversation
            UNION ALL
            SELECT place + 1, m.key, m.parent, total + m.tokens
            FROM branch JOIN messages m ON m.key = branch.parent
            WHERE place < :limit AND total <= :most
        )
        SELECT {rows.MESSAGE_COLUMNS}
        FROM branch JOIN messages m ON m.key = branch.key
        JOIN conversations c ON c.key = m.conversation
        LEFT JOIN messages p ON p.key = m.parent
        ORDER BY place
        """,
        owner=owner,
        leaf=leaf_id,
        conversation=conversation_id,
        limit=limit,
        most=1 << 62 if tokens is None else tokens,
    )
    if not found:
        raise no_message(leaf_id)
    return [rows.message(row) for row in found]


async def siblings(
    db: Database, owner: str, key: int, parent_ids: Sequence[str | None]
) -> Mapping[str | None, Sequence[str]]:
    """Return the children of messages of the conversation `key`, in one statement."""
    asked = list(dict.fromkeys(parent_ids))
    found = await db.rows(
        """
        SELECT asked.place, m.id FROM unnest(:parents::text[]) WITH ORDINALITY AS asked (id, place)
        LEFT JOIN messages p ON p.owner = :owner AND p.id = asked.id
        JOIN messages m ON m.conversation = :key AND m.stands_for IS NULL
            AND (m.parent = p.key OR (asked.id IS NULL AND m.parent IS NULL))
        ORDER BY m.key
        """,
        parents=asked,
        owner=owner,
        key=key,
    )
    children: dict[str | None, list[str]] = {parent: [] for parent in asked}
    for place, child in found:
        children[asked[place - 1]].append(child)
    return children


async def summaries(db: Database, key: int, limit: int) -> Sequence[Message]:
    found = await db.rows(
        f"{rows.MESSAGE} WHERE m.conversation = :key AND m.stands_for IS NOT NULL "
        "ORDER BY m.depth DESC, m.key DESC LIMIT :limit",
        key=key,
        limit=limit,
    )
    return [rows.message(row) for row in found]

"""Messages of the SQLite store, how they are read: plain functions of its connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from storage import rows
from storage.model import Message
from storage.port import NotFoundError
from storage.sqlite import conversations


def message(
    connection: sqlite3.Connection, owner: str, conversation_id: str, message_id: str
) -> Message:
    key = conversations.message_key(connection, owner, conversation_id, message_id)
    return rows.message(connection.execute(f"{rows.MESSAGE} WHERE m.key = ?", (key,)).fetchone())


def find(connection: sqlite3.Connection, owner: str, message_id: str) -> Message:
    """Return a message of an owner, in whatever conversation."""
    row = connection.execute(
        f"{rows.MESSAGE} WHERE m.owner = ? AND m.id = ? AND c.owner = m.owner",
        (owner, message_id),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no message {message_id!r}.")
    return rows.message(row)


def branch(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    leaf_id: str,
    limit: int,
    tokens: int | None,
) -> Sequence[Message]:
    leaf = conversations.message_key(connection, owner, conversation_id, leaf_id)
    found = connection.execute(
        f"""
        WITH RECURSIVE branch (place, key, parent, total) AS (
            SELECT 1, key, parent, tokens FROM messages WHERE key = :leaf
            UNION ALL
            SELECT place + 1, m.key, m.parent, total + m.tokens
            FROM branch JOIN messages m ON m.key = branch.parent
            WHERE place < :limit AND total <= :tokens
        )
        SELECT {rows.MESSAGE_COLUMNS}
        FROM branch JOIN messages m ON m.key = branch.key
        JOIN conversations c ON c.key = m.conversation
        LEFT JOIN messages p ON p.key = m.parent
        ORDER BY place
        """,
        {"leaf": leaf, "limit": limit, "tokens": 1 << 62 if tokens is None else tokens},
    )
    return [rows.message(row) for row in found]


def downwards(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    leaf_id: str,
    below: int,
    limit: int,
) -> Sequence[Message]:
    """Read by depth where nothing branches there, else by a walk up from the leaf over keys."""
    key = conversations.conversation_key(connection, owner, conversation_id)
    leaf, depth = conversations.place(connection, owner, key, leaf_id)
    given = {
        "key": key,
        "leaf": leaf,
        "below": below,
        "last": min(depth, below + limit),
    }
    level = "m.conversation = :key AND m.depth > :below AND m.depth <= :last"
    found, levels = connection.execute(
        f"SELECT count(*), count(DISTINCT m.depth) FROM messages m WHERE {level} "
        "AND m.stands_for IS NULL",
        given,
    ).fetchone()
    walk = """
        WITH RECURSIVE up (key, parent, depth) AS (
            SELECT key, parent, depth FROM messages WHERE key = :leaf
            UNION ALL
            SELECT m.key, m.parent, m.depth FROM up JOIN messages m ON m.key = up.parent
            WHERE up.depth > :below + 1
        )"""
    branches = found != levels
    within = "AND m.key IN (SELECT key FROM up)" if branches else "AND m.stands_for IS NULL"
    return [
        rows.message(row)
        for row in connection.execute(
            f"{walk if branches else ''} {rows.MESSAGE} WHERE {level} {within} ORDER BY m.depth",
            given,
        )
    ]


def siblings(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    parent_ids: Sequence[str | None],
) -> Mapping[str | None, Sequence[str]]:
    key = conversations.conversation_key(connection, owner, conversation_id)
    named = "= (SELECT key FROM messages WHERE owner = :owner AND id = :parent)"
    children = {}
    for parent_id in set(parent_ids):
        # `IS` for both would take the NULL of a message that is not there for a root's.
        found = connection.execute(
            f"""
            SELECT id FROM messages WHERE conversation = :key AND stands_for IS NULL
            AND parent {"IS NULL" if parent_id is None else named} ORDER BY key
            """,
            {"key": key, "owner": owner, "parent": parent_id},
        )
        children[parent_id] = [child for (child,) in found]
    return children


def summaries(
    connection: sqlite3.Connection, owner: str, conversation_id: str, limit: int
) -> Sequence[Message]:
    key = conversations.conversation_key(connection, owner, conversation_id)
    found = connection.execute(
        f"{rows.MESSAGE} WHERE m.conversation = ? AND m.stands_for IS NOT NULL "
        "ORDER BY m.depth DESC, m.key DESC LIMIT ?",
        (key, limit),
    )
    return [rows.message(row) for row in found]

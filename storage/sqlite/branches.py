"""Walks of the SQLite store through the tree of messages: a branch, and what stands beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from storage import rows
from storage.model import Message
from storage.sqlite import conversations


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


def siblings(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    parent_ids: Sequence[str | None],
) -> Mapping[str | None, Sequence[str]]:
    key = conversations.conversation_key(connection, owner, conversation_id)
    children = {}
    for parent_id in set(parent_ids):
        found = connection.execute(
            """
            SELECT id FROM messages WHERE conversation = :key AND stands_for IS NULL
            AND parent IS (SELECT key FROM messages WHERE owner = :owner AND id = :parent)
            ORDER BY key
            """,
            {"key": key, "owner": owner, "parent": parent_id},
        )
        children[parent_id] = [child for (child,) in found]
    return children

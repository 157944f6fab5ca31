"""The transactions of the SQLite store: plain functions of its connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from storage import rows
from storage.model import Content, Conversation, Message, Order, Page
from storage.port import (
    AlreadyExistsError,
    BusyError,
    NotFoundError,
)
from storage.ranking import text_of
from storage.sqlite.fulltext import index, search

#: What one step of something long may write, in messages or turns and in characters (a single
#: message may have more): other writers wait so long and no longer.
STEP_ROWS = 50
STEP_CHARACTERS = 1 << 15
#: Who owns what is being deleted or imported; no owner of an API key can have this name.
NOBODY = "\x00"


def conversation_key(connection: sqlite3.Connection, owner: str, conversation_id: str) -> int:
    row = connection.execute(
        "SELECT key FROM conversations WHERE owner = ? AND id = ?", (owner, conversation_id)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no conversation {conversation_id!r}.", "conversation_id")
    return int(row[0])


def message_key(
    connection: sqlite3.Connection, owner: str, conversation_id: str, message_id: str
) -> int:
    row = connection.execute(
        """
        SELECT m.key FROM messages m JOIN conversations c ON c.key = m.conversation
        WHERE m.owner = ? AND m.id = ? AND c.owner = m.owner AND c.id = ?
        """,
        (owner, message_id, conversation_id),
    ).fetchone()
    if row is None:
        raise _no_message(message_id)
    return int(row[0])


def place(
    connection: sqlite3.Connection, owner: str, conversation: int, message_id: str
) -> tuple[int, int]:
    """Return key and depth of a message of a conversation, hidden or not."""
    row = connection.execute(
        "SELECT key, depth FROM messages WHERE owner = ? AND id = ? AND conversation = ?",
        (owner, message_id, conversation),
    ).fetchone()
    if row is None:
        raise _no_message(message_id)
    key, depth = row
    return key, depth


def _no_message(message_id: str) -> NotFoundError:
    return NotFoundError(f"There is no message {message_id!r} in this conversation.")


def conversation(connection: sqlite3.Connection, owner: str, conversation_id: str) -> Conversation:
    key = conversation_key(connection, owner, conversation_id)
    row = connection.execute(f"{rows.CONVERSATION} WHERE c.key = ?", (key,)).fetchone()
    return rows.conversation(row)


def create(connection: sqlite3.Connection, owner: str, new: Conversation) -> Conversation:
    if not insert_conversation(connection, owner, new):
        raise AlreadyExistsError(f"There is a conversation {new.id!r} already.", "id")
    return new


def update(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    changes: Mapping[str, Any],
    now: int,
) -> Conversation:
    key = conversation_key(connection, owner, conversation_id)
    values: dict[str, Any] = {"updated_at": now}
    for name, value in changes.items():
        match name:
            case "head_id":
                values["head"] = message_key(connection, owner, conversation_id, value)
            case "metadata":
                values["metadata"] = rows.json_text(value)
            case "title" | "system_prompt" | "model" | "truncation" | "pinned":
                values[name] = value
            case _:
                raise KeyError(name)
    if "title" in values:
        retitle(connection, key, values.pop("title"))
    sets = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        f"UPDATE conversations SET {sets} WHERE key = :key",
        {**values, "key": key},
    )
    return conversation(connection, owner, conversation_id)


def hide(connection: sqlite3.Connection, owner: str, conversation_id: str) -> int:
    """Take a conversation and all that hangs on it from everybody; `purge` deletes it."""
    key = conversation_key(connection, owner, conversation_id)
    running = "SELECT 1 FROM turns WHERE conversation = ? AND status = 'running'"
    if connection.execute(running, (key,)).fetchone():
        raise BusyError("A turn is running in this conversation.")
    connection.execute(
        "UPDATE conversations SET owner = ?, id = ? WHERE key = ?", (NOBODY, str(key), key)
    )
    return key


def hidden(connection: sqlite3.Connection) -> Sequence[int]:
    """Return what was hidden and not yet purged or shown, when the process died in between."""
    found = connection.execute("SELECT key FROM conversations WHERE owner = ?", (NOBODY,))
    return [key for (key,) in found]


def expired(connection: sqlite3.Connection, before: int, limit: int) -> Sequence[tuple[str, str]]:
    """Return unlisted conversations that nothing was written to since, with their owners."""
    found = connection.execute(
        """
        SELECT owner, id FROM conversations
        WHERE unlisted IS NOT NULL AND updated_at < ? AND owner <> ? ORDER BY updated_at LIMIT ?
        """,
        (before, NOBODY, limit),
    )
    return [(owner, id_) for owner, id_ in found]


def purge(connection: sqlite3.Connection, key: int) -> bool:
    """Delete a step's worth of a hidden conversation, at last itself; return whether to go on."""
    row = connection.execute(
        "SELECT title FROM conversations WHERE key = ? AND owner = ?", (key, NOBODY)
    ).fetchone()
    if row is None:  # its import was shown after all
        return False
    if _purge_turns(connection, key) or _purge_messages(connection, key):
        return True
    index.remove(connection, "title", key, row[0])
    connection.execute("DELETE FROM conversations WHERE key = ?", (key,))
    return False


def _purge_turns(connection: sqlite3.Connection, conversation: int) -> int:
    found = connection.execute(
        "SELECT key FROM turns WHERE conversation = ? LIMIT ?", (conversation, STEP_ROWS)
    ).fetchall()
    for table in ("checkpoints", "claims", "responses"):
        connection.executemany(f"DELETE FROM {table} WHERE turn = ?", found)
    connection.executemany("DELETE FROM turns WHERE key = ?", found)
    return len(found)


def _purge_messages(connection: sqlite3.Connection, conversation: int) -> int:
    walk = connection.execute(
        """
        SELECT key, is_parts, content, stands_for IS NULL FROM messages
        WHERE conversation = ? LIMIT ?
        """,
        (conversation, STEP_ROWS),
    )
    found, characters = [], 0
    with closing(walk):
        for row in walk:
            found.append(row)
            characters += len(row[2])
            if characters >= STEP_CHARACTERS:
                break
    for message, is_parts, content, _ in found:
        index.remove(connection, "message", message, searchable(is_parts, content))
    connection.executemany("DELETE FROM messages WHERE key = ?", [(row[0],) for row in found])
    connection.execute(
        "UPDATE conversations SET message_count = message_count - ?, head = NULL WHERE key = ?",
        (sum(counted for *_, counted in found), conversation),
    )
    return len(found)


def touch(connection: sqlite3.Connection) -> None:
    """Write a page that says nothing, to see whether writing works."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version:d}")


def insert_conversation(
    connection: sqlite3.Connection, owner: str, new: Conversation
) -> int | None:
    """Keep a conversation without messages; return its key, None where there is one."""
    cursor = connection.execute(
        """
        INSERT INTO conversations (owner, id, title, system_prompt, model, metadata, truncation,
            pinned, created_at, updated_at, active_at, unlisted)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (owner, id) DO NOTHING
        """,
        (
            owner,
            new.id,
            new.title,
            new.system_prompt,
            new.model,
            rows.json_text(new.metadata),
            new.truncation,
            new.pinned,
            new.created_at,
            new.updated_at,
            new.created_at,
            new.unlisted or None,
        ),
    )
    if cursor.rowcount != 1:
        return None
    key = int(cursor.lastrowid or 0)
    index.add(connection, "title", key, new.title)
    return key


def retitle(connection: sqlite3.Connection, key: int, title: str) -> None:
    (old,) = connection.execute("SELECT title FROM conversations WHERE key = ?", (key,)).fetchone()
    index.remove(connection, "title", key, old)
    connection.execute("UPDATE conversations SET title = ? WHERE key = ?", (title, key))
    index.add(connection, "title", key, title)


def searchable(is_parts: int, content: str) -> str:
    return text_of(json.loads(content) if is_parts else content)


def insert_message(
    connection: sqlite3.Connection, owner: str, conversation: int, new: Message
) -> int:
    parent, above = None, 0
    if new.parent_id is not None:
        parent, above = place(connection, owner, conversation, new.parent_id)
    is_parts, text = rows.content_columns(new.content)
    cursor = connection.execute(
        """
        INSERT INTO messages (conversation, parent, depth, tokens, encoding, role, created_at,
            owner, id, model, turn_id, stands_for, is_parts, content,
            item)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            conversation,
            parent,
            above + 1,
            new.tokens,
            new.encoding,
            new.role,
            new.created_at,
            owner,
            new.id,
            new.model,
            new.turn_id,
            new.stands_for,
            is_parts,
            text,
            rows.object_column(new.item),
        ),
    )
    key = int(cursor.lastrowid or 0)
    index.add(connection, "message", key, text_of(new.content))
    return key


def move_head(
    connection: sqlite3.Connection, conversation: int, head: int, now: int, *, free: bool = False
) -> None:
    """Count a new message, which is the head from now on; one of a free turn only where no list
    shows it.
    """
    connection.execute(
        """
        UPDATE conversations SET head = CASE WHEN ? AND unlisted IS NULL THEN head ELSE ? END,
            updated_at = ?, active_at = ?, message_count = message_count + 1
        WHERE key = ?
        """,
        (free, head, now, now, conversation),
    )


def append(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    said: Sequence[Message],
    title: str,
    now: int,
) -> None:
    key = conversation_key(connection, owner, conversation_id)
    entitle(connection, key, title)
    for message in said:
        move_head(connection, key, insert_message(connection, owner, key, message), now)


def rewrite(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    message_id: str,
    content: Content,
    tokens: int,
) -> None:
    key = message_key(connection, owner, conversation_id, message_id)
    was = "SELECT is_parts, content FROM messages WHERE key = ?"
    index.remove(
        connection, "message", key, searchable(*connection.execute(was, (key,)).fetchone())
    )
    is_parts, text = rows.content_columns(content)
    connection.execute(
        f"UPDATE messages SET is_parts = ?, content = ?, tokens = ?, item = {rows.ITEM_LEFT} "
        "WHERE key = ?",
        (is_parts, text, tokens, key),
    )
    index.add(connection, "message", key, text_of(content))


def entitle(connection: sqlite3.Connection, key: int, title: str) -> None:
    """Give a title to a conversation that has none, and no message yet."""
    row = connection.execute(
        "SELECT 1 FROM conversations WHERE key = ? AND title = '' AND message_count = 0", (key,)
    ).fetchone()
    if row is not None and title:
        retitle(connection, key, title)


#: By what conversations are listed, each of it the greatest first.
_ORDERS = {
    Order.CREATED: ("created_at", "key"),
    Order.ACTIVITY: ("pinned", "active_at", "key"),
}


def page(
    connection: sqlite3.Connection,
    owner: str,
    limit: int,
    after: str | None,
    q: str | None,
    order: Order,
) -> Page[Conversation]:
    behind = None if after is None else conversation_key(connection, owner, after)
    found = (
        search.titled(connection, owner, q, limit + 1, behind)
        if q
        else _in_order(connection, owner, limit + 1, behind, _ORDERS[order])
    )
    return Page(tuple(rows.conversation(row) for row in found[:limit]), len(found) > limit)


def _in_order(
    connection: sqlite3.Connection,
    owner: str,
    limit: int,
    behind: int | None,
    columns: Sequence[str],
) -> list[tuple[Any, ...]]:
    """Return conversations by these columns, behind where the one of a key stands."""
    place = ", ".join(f"c.{name}" for name in columns)
    further = (
        ""
        if behind is None
        else f"AND ({place}) < (SELECT {', '.join(columns)} FROM conversations WHERE key = :behind)"
    )
    return connection.execute(
        f"{rows.CONVERSATION} WHERE c.owner = :owner AND c.unlisted IS NULL {further} "
        f"ORDER BY {', '.join(f'c.{name} DESC' for name in columns)} LIMIT :limit",
        {"owner": owner, "behind": behind, "limit": limit},
    ).fetchall()

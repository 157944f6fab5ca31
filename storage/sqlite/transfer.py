"""Whole conversations out of and into the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from storage import rows
from storage.model import Conversation, Message, Turn
from storage.port import AlreadyExistsError, NotFoundError
from storage.sqlite import conversations, turns

Item = TypeVar("Item", Message, Turn)


def every_message(
    connection: sqlite3.Connection, owner: str, conversation_id: str, after: str | None, limit: int
) -> Sequence[Message]:
    key = conversations.conversation_key(connection, owner, conversation_id)
    behind = (
        0 if after is None else conversations.message_key(connection, owner, conversation_id, after)
    )
    found = connection.execute(
        f"{rows.MESSAGE} WHERE m.conversation = ? AND m.key > ? ORDER BY m.key LIMIT ?",
        (key, behind, limit),
    )
    return [rows.message(row) for row in found]


def every_turn(
    connection: sqlite3.Connection, owner: str, conversation_id: str, after: str | None, limit: int
) -> Sequence[Turn]:
    key = conversations.conversation_key(connection, owner, conversation_id)
    behind = 0 if after is None else turns.turn_key(connection, owner, after)
    found = connection.execute(
        f"{turns.TURN} WHERE t.conversation = ? AND t.key > ? ORDER BY t.key LIMIT ?",
        (key, behind, limit),
    )
    return [rows.turn(row) for row in found]


def put(
    connection: sqlite3.Connection,
    owner: str,
    conversation: Conversation,
    messages: Sequence[Message],
    turns: Sequence[Turn],
) -> bool:
    """Keep what is not there yet of a conversation, all in this transaction."""
    fresh = conversations.insert_conversation(connection, owner, conversation)
    key = fresh or conversations.conversation_key(connection, owner, conversation.id)
    added = add(connection, owner, key, owner, conversation.head_id, messages, turns)
    return bool(fresh) or added


def make_hidden(connection: sqlite3.Connection, conversation: Conversation) -> int:
    """Keep a conversation that nobody sees until `show`; return its key."""
    unnamed = replace(conversation, id=conversations.NOBODY)
    key = conversations.insert_conversation(connection, conversations.NOBODY, unnamed)
    if key is None:
        raise AssertionError("a hidden conversation was left without a name")
    connection.execute("UPDATE conversations SET id = ? WHERE key = ?", (str(key), key))
    return key


def show(connection: sqlite3.Connection, owner: str, key: int, conversation_id: str) -> bool:
    """Give a hidden conversation to its owner; False where one of its id was made meanwhile."""
    if find(connection, owner, conversation_id) is not None:
        return False
    connection.execute(
        "UPDATE conversations SET owner = ?, id = ? WHERE key = ?", (owner, conversation_id, key)
    )
    return True


def find(connection: sqlite3.Connection, owner: str, conversation_id: str) -> int | None:
    """Return the key of a conversation, if it is there."""
    try:
        return conversations.conversation_key(connection, owner, conversation_id)
    except NotFoundError:
        return None


def add(
    connection: sqlite3.Connection,
    owner: str,
    key: int,
    holder: str,
    head_id: str | None,
    messages: Sequence[Message],
    turns: Sequence[Turn],
) -> bool:
    """Keep what is not there yet of these; return whether anything was kept.

    The conversation belongs to `holder`, the owner or NOBODY. Raises NotFoundError where it does
    not any more, or for a parent or head; AlreadyExistsError for an id of another conversation.
    """
    held = "SELECT 1 FROM conversations WHERE key = ? AND owner = ?"
    if connection.execute(held, (key, holder)).fetchone() is None:
        raise NotFoundError("The conversation was deleted meanwhile.", "conversation_id")
    kept = absent(connection, "messages", owner, key, messages)
    for message in kept:
        conversations.insert_message(connection, owner, key, message)
    counted = [message.created_at for message in kept if message.stands_for is None]
    if counted:
        connection.execute(
            """
            UPDATE conversations SET message_count = message_count + :count,
                active_at = CASE message_count WHEN 0 THEN :newest ELSE max(active_at, :newest) END
            WHERE key = :key
            """,
            {"count": len(counted), "newest": max(counted), "key": key},
        )
    begun = absent(connection, "turns", owner, key, turns)
    for turn in begun:
        _put_turn(connection, owner, key, turn)
    led = _lead(connection, owner, key, head_id)
    return led or bool(kept or begun)


def _lead(connection: sqlite3.Connection, owner: str, key: int, head_id: str | None) -> bool:
    """Give a head to a conversation that has none; return whether it got it."""
    (head,) = connection.execute("SELECT head FROM conversations WHERE key = ?", (key,)).fetchone()
    if head is not None or head_id is None:
        return False
    head, _ = conversations.place(connection, owner, key, head_id)
    connection.execute("UPDATE conversations SET head = ? WHERE key = ?", (head, key))
    return True


def absent(
    connection: sqlite3.Connection, table: str, owner: str, key: int | None, items: Sequence[Item]
) -> Sequence[Item]:
    """Return those that are not there yet; `key` is their conversation's, if it is there.

    Raises AlreadyExistsError for an id of another conversation.
    """
    return [one for one in items if not _there(connection, table, owner, key, one.id)]


def _there(
    connection: sqlite3.Connection, table: str, owner: str, conversation: int | None, id_: str
) -> bool:
    row = connection.execute(
        f"SELECT conversation FROM {table} WHERE owner = ? AND id = ?", (owner, id_)
    ).fetchone()
    if row is None:
        return False
    if row[0] != conversation:
        raise AlreadyExistsError(f"{id_!r} stands in another conversation already.")
    return True


def _put_turn(connection: sqlite3.Connection, owner: str, conversation: int, turn: Turn) -> None:
    question, _ = conversations.place(connection, owner, conversation, turn.question_id)
    answer = None
    if turn.answer_id is not None:
        answer, _ = conversations.place(connection, owner, conversation, turn.answer_id)
    try:
        key = turns.insert_turn(connection, owner, conversation, question, turn)
    except sqlite3.IntegrityError as error:
        raise NotFoundError(f"The turn {turn.id!r} cannot be kept.") from error
    turns.settle(connection, key, turn, answer)

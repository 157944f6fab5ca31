"""Whole conversations out of and into the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from storage import rows, turns, writes
from storage.model import Conversation, Message, Turn
from storage.port import AlreadyExistsError, NotFoundError


def every_message(
    connection: sqlite3.Connection, owner: str, conversation_id: str, after: str | None, limit: int
) -> Sequence[Message]:
    key = writes.conversation_key(connection, owner, conversation_id)
    behind = 0 if after is None else writes.message_key(connection, owner, conversation_id, after)
    found = connection.execute(
        f"{rows.MESSAGE} WHERE m.conversation = ? AND m.key > ? ORDER BY m.key LIMIT ?",
        (key, behind, limit),
    )
    return [rows.message(row) for row in found]


def every_turn(
    connection: sqlite3.Connection, owner: str, conversation_id: str, after: str | None, limit: int
) -> Sequence[Turn]:
    key = writes.conversation_key(connection, owner, conversation_id)
    behind = 0 if after is None else turns.turn_key(connection, owner, after)
    found = connection.execute(
        f"{rows.TURN} WHERE t.conversation = ? AND t.key > ? ORDER BY t.key LIMIT ?",
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
    fresh = writes.insert_conversation(connection, owner, conversation)
    key = writes.conversation_key(connection, owner, conversation.id)
    kept = [m for m in messages if not _there(connection, "messages", owner, key, m.id)]
    for message in kept:
        writes.insert_message(connection, owner, key, message)
    counted = sum(message.stands_for is None for message in kept)
    connection.execute(
        "UPDATE conversations SET message_count = message_count + ? WHERE key = ?", (counted, key)
    )
    if conversation.head_id is not None and (fresh or _headless(connection, key)):
        head = writes.message_key(connection, owner, conversation.id, conversation.head_id)
        connection.execute("UPDATE conversations SET head = ? WHERE key = ?", (head, key))
    begun = [turn for turn in turns if not _there(connection, "turns", owner, key, turn.id)]
    for turn in begun:
        _put_turn(connection, owner, key, turn)
    return bool(fresh or kept or begun)


def _there(
    connection: sqlite3.Connection, table: str, owner: str, conversation: int, id_: str
) -> bool:
    row = connection.execute(
        f"SELECT conversation FROM {table} WHERE owner = ? AND id = ?", (owner, id_)
    ).fetchone()
    if row is None:
        return False
    if row[0] != conversation:
        raise AlreadyExistsError(f"{id_!r} stands in another conversation already.")
    return True


def _headless(connection: sqlite3.Connection, key: int) -> bool:
    row = connection.execute("SELECT head FROM conversations WHERE key = ?", (key,)).fetchone()
    return row[0] is None


def _put_turn(connection: sqlite3.Connection, owner: str, conversation: int, turn: Turn) -> None:
    question = writes.message_key(connection, owner, turn.conversation_id, turn.question_id)
    answer = None
    if turn.answer_id is not None:
        answer = writes.message_key(connection, owner, turn.conversation_id, turn.answer_id)
    try:
        key = turns.insert_turn(connection, owner, conversation, question, turn)
    except sqlite3.IntegrityError as error:
        raise NotFoundError(f"The turn {turn.id!r} cannot be kept.") from error
    turns.settle(connection, key, turn, answer)

"""The transactions of the SQLite store: plain functions of its connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from storage import budgets, rows, search
from storage.model import Conversation, Message, Role, Status, Turn
from storage.port import (
    AlreadyExistsError,
    BusyError,
    Claim,
    IdempotencyMismatchError,
    NotFoundError,
    Outcome,
    Piece,
)

#: How long an idempotency key stands for its turn, in microseconds: a day.
CLAIM_LIFETIME = 24 * 3600 * 1_000_000
#: How many messages one transaction purges: other writers wait so long and no longer.
PURGED_AT_ONCE = 500
#: Who owns what is being deleted; no owner of an API key can have this name.
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
        WHERE m.owner = ? AND m.id = ? AND c.id = ?
        """,
        (owner, message_id, conversation_id),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no message {message_id!r} in this conversation.")
    return int(row[0])


def turn_key(connection: sqlite3.Connection, owner: str, turn_id: str) -> int:
    row = connection.execute(
        "SELECT key FROM turns WHERE owner = ? AND id = ?", (owner, turn_id)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no turn {turn_id!r}.", "turn_id")
    return int(row[0])


def conversation(connection: sqlite3.Connection, owner: str, conversation_id: str) -> Conversation:
    key = conversation_key(connection, owner, conversation_id)
    row = connection.execute(f"{rows.CONVERSATION} WHERE c.key = ?", (key,)).fetchone()
    return rows.conversation(row)


def turn(connection: sqlite3.Connection, owner: str, turn_id: str) -> Turn:
    key = turn_key(connection, owner, turn_id)
    return rows.turn(connection.execute(f"{rows.TURN} WHERE t.key = ?", (key,)).fetchone())


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
            case "title" | "system_prompt" | "model" | "truncation":
                values[name] = value
            case _:
                raise KeyError(name)
    if "title" in values:
        _retitle(connection, key, values.pop("title"))
    sets = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        f"UPDATE conversations SET {sets} WHERE key = :key",
        {**values, "key": key},
    )
    return conversation(connection, owner, conversation_id)


def hide(connection: sqlite3.Connection, owner: str, conversation_id: str) -> int:
    """Take a conversation from everybody, its turns with it; `purge` deletes the rest."""
    key = conversation_key(connection, owner, conversation_id)
    running = "SELECT 1 FROM turns WHERE conversation = ? AND status = 'running'"
    if connection.execute(running, (key,)).fetchone():
        raise BusyError("A turn is running in this conversation.")
    turns = "(SELECT key FROM turns WHERE conversation = ?)"
    for table in ("checkpoints", "claims"):
        connection.execute(f"DELETE FROM {table} WHERE turn IN {turns}", (key,))
    connection.execute("DELETE FROM turns WHERE conversation = ?", (key,))
    connection.execute(
        "UPDATE conversations SET owner = ?, id = ? WHERE key = ?", (NOBODY, str(key), key)
    )
    return key


def hidden(connection: sqlite3.Connection) -> Sequence[int]:
    """Return what was hidden and not yet purged, when the process died in between."""
    found = connection.execute("SELECT key FROM conversations WHERE owner = ?", (NOBODY,))
    return [key for (key,) in found]


def purge(connection: sqlite3.Connection, key: int) -> bool:
    """Delete some messages of a hidden conversation, at last itself; return whether to go on."""
    found = connection.execute(
        "SELECT key, is_parts, content FROM messages WHERE conversation = ? LIMIT ?",
        (key, PURGED_AT_ONCE),
    ).fetchall()
    for message, is_parts, content in found:
        search.forget(connection, "message", message, _searchable(is_parts, content))
    connection.executemany("DELETE FROM messages WHERE key = ?", [(row[0],) for row in found])
    if len(found) == PURGED_AT_ONCE:
        return True
    (title,) = connection.execute(
        "SELECT title FROM conversations WHERE key = ?", (key,)
    ).fetchone()
    search.forget(connection, "title", key, title)
    connection.execute("DELETE FROM conversations WHERE key = ?", (key,))
    return False


def claimed(connection: sqlite3.Connection, owner: str, claim: Claim) -> str | None:
    row = connection.execute(
        """
        SELECT claims.fingerprint, turns.id FROM claims JOIN turns ON turns.key = claims.turn
        WHERE claims.owner = ? AND claims.key = ? AND claims.created_at > ?
        """,
        (owner, claim.key, claim.now - CLAIM_LIFETIME),
    ).fetchone()
    if row is None:
        return None
    fingerprint, turn_id = row
    if fingerprint != claim.fingerprint:
        raise IdempotencyMismatchError(
            "This idempotency key was used for another request.", "idempotency-key"
        )
    return str(turn_id)


def begin(
    connection: sqlite3.Connection,
    owner: str,
    new: Turn,
    question: Message | None,
    make: Conversation | None,
    title: str,
    claim: Claim | None,
    before: Sequence[Message] = (),
) -> Turn:
    if make is not None and not insert_conversation(connection, owner, make):
        connection.execute(
            """
            UPDATE conversations SET system_prompt = ?, model = ?
            WHERE owner = ? AND id = ? AND message_count = 0
            """,
            (make.system_prompt, make.model, owner, make.id),
        )
    key = conversation_key(connection, owner, new.conversation_id)
    for message in before:
        said = insert_message(connection, owner, key, message)
        _move_head(connection, key, said, new.created_at)
    if question is not None:
        asked = insert_message(connection, owner, key, question)
        _move_head(connection, key, asked, new.created_at)
        _entitle(connection, key, title)
    else:
        asked = message_key(connection, owner, new.conversation_id, new.question_id)
    try:
        turn_key_ = insert_turn(connection, owner, key, asked, new)
    except sqlite3.IntegrityError as error:
        raise BusyError("A turn is running in this conversation.") from error
    if claim is not None:
        _insert_claim(connection, owner, claim, turn_key_)
    return turn(connection, owner, new.id)


def checkpoint(connection: sqlite3.Connection, pieces: Sequence[Piece]) -> None:
    connection.executemany(
        """
        INSERT OR REPLACE INTO checkpoints (turn, position, text)
        SELECT key, ?, ? FROM turns WHERE id = ? AND owner = ? AND status = 'running'
        """,
        [(piece.position, piece.text, piece.turn_id, piece.owner) for piece in pieces],
    )


def end(connection: sqlite3.Connection, owner: str, turn_id: str, outcome: Outcome) -> Turn:
    key = turn_key(connection, owner, turn_id)
    running = turn(connection, owner, turn_id)
    if running.status is not Status.RUNNING:
        return running
    answer = None
    if outcome.text or outcome.status is Status.COMPLETED:
        answer = _insert_answer(connection, owner, running, outcome)
    settle(connection, key, outcome, answer)
    budgets.spend(connection, owner, budgets.cost(running, outcome), outcome.ended_at)
    connection.execute("DELETE FROM checkpoints WHERE turn = ?", (key,))
    return turn(connection, owner, turn_id)


def settle(
    connection: sqlite3.Connection, key: int, ended: Outcome | Turn, answer: int | None
) -> None:
    """Write into a turn how it ended."""
    usage, error = ended.usage, ended.error
    connection.execute(
        """
        UPDATE turns SET status = ?, answer = ?, finish_reason = ?, prompt_tokens = ?,
            completion_tokens = ?, error_code = ?, error_message = ?, error_status = ?,
            ended_at = ?, drift = ?
        WHERE key = ?
        """,
        (
            ended.status,
            answer,
            ended.finish_reason,
            usage and usage.prompt_tokens,
            usage and usage.completion_tokens,
            error and error.code,
            error and error.message,
            error and error.status,
            ended.ended_at,
            ended.drift,
            key,
        ),
    )


def touch(connection: sqlite3.Connection) -> None:
    """Write a page that says nothing, to see whether writing works."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version:d}")


def insert_conversation(connection: sqlite3.Connection, owner: str, new: Conversation) -> bool:
    cursor = connection.execute(
        """
        INSERT INTO conversations (owner, id, title, system_prompt, model, metadata, truncation,
            created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
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
            new.created_at,
            new.updated_at,
        ),
    )
    if cursor.rowcount != 1:
        return False
    search.index(connection, "title", int(cursor.lastrowid or 0), new.title)
    return True


def _retitle(connection: sqlite3.Connection, key: int, title: str) -> None:
    (old,) = connection.execute("SELECT title FROM conversations WHERE key = ?", (key,)).fetchone()
    search.forget(connection, "title", key, old)
    connection.execute("UPDATE conversations SET title = ? WHERE key = ?", (title, key))
    search.index(connection, "title", key, title)


def _searchable(is_parts: int, content: str) -> str:
    return search.text_of(json.loads(content) if is_parts else content)


def insert_message(
    connection: sqlite3.Connection, owner: str, conversation: int, new: Message
) -> int:
    parent, depth = None, 1
    if new.parent_id is not None:
        parent = message_key(connection, owner, new.conversation_id, new.parent_id)
        (depth,) = connection.execute(
            "SELECT depth + 1 FROM messages WHERE key = ?", (parent,)
        ).fetchone()
    is_parts, text = rows.content_columns(new.content)
    cursor = connection.execute(
        """
        INSERT INTO messages (conversation, parent, depth, tokens, encoding, role, created_at,
            owner, id, model, turn_id, stands_for, is_parts, content)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            conversation,
            parent,
            depth,
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
        ),
    )
    key = int(cursor.lastrowid or 0)
    search.index(connection, "message", key, search.text_of(new.content))
    return key


def _insert_answer(
    connection: sqlite3.Connection, owner: str, running: Turn, outcome: Outcome
) -> int:
    conversation = conversation_key(connection, owner, running.conversation_id)
    answer = Message(
        id=outcome.answer_id,
        conversation_id=running.conversation_id,
        parent_id=running.question_id,
        role=Role.ASSISTANT,
        content=outcome.text if outcome.content is None else outcome.content,
        tokens=outcome.tokens,
        encoding=outcome.encoding,
        model=running.model,
        turn_id=running.id,
        created_at=outcome.ended_at,
    )
    key = insert_message(connection, owner, conversation, answer)
    _move_head(connection, conversation, key, outcome.ended_at)
    return key


def insert_turn(
    connection: sqlite3.Connection, owner: str, conversation: int, question: int, new: Turn
) -> int:
    cursor = connection.execute(
        """
        INSERT INTO turns (conversation, owner, id, status, model, question, context_window,
            context_budget, context_prompt_tokens, context_included, context_trimmed, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            conversation,
            owner,
            new.id,
            new.status,
            new.model,
            question,
            new.context.window,
            new.context.budget,
            new.context.prompt_tokens,
            new.context.messages_included,
            new.context.messages_trimmed,
            new.created_at,
        ),
    )
    return int(cursor.lastrowid or 0)


def _insert_claim(connection: sqlite3.Connection, owner: str, claim: Claim, turn: int) -> None:
    outlived = claim.now - CLAIM_LIFETIME
    connection.execute("DELETE FROM claims WHERE created_at <= ?", (outlived,))
    connection.execute(
        "INSERT INTO claims (owner, key, fingerprint, turn, created_at) VALUES (?, ?, ?, ?, ?)",
        (owner, claim.key, claim.fingerprint, turn, claim.now),
    )


def _move_head(connection: sqlite3.Connection, conversation: int, head: int, now: int) -> None:
    connection.execute(
        """
        UPDATE conversations SET head = ?, updated_at = ?, message_count = message_count + 1
        WHERE key = ?
        """,
        (head, now, conversation),
    )


def _entitle(connection: sqlite3.Connection, key: int, title: str) -> None:
    """Give a title to a conversation that has none."""
    row = connection.execute(
        "SELECT 1 FROM conversations WHERE key = ? AND title = ''", (key,)
    ).fetchone()
    if row is not None and title:
        _retitle(connection, key, title)

"""The transactions of turns: begun, checkpointed, ended; plain functions of a connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple
from types import EllipsisType

from storage import rows
from storage.model import ContextUse, Conversation, Message, Role, Status, Turn
from storage.parts import marks_json
from storage.port import (
    CLAIM_LIFETIME,
    FORGOTTEN_AT_ONCE,
    BusyError,
    Claim,
    ClaimedError,
    MovedError,
    NotFoundError,
    Outcome,
    Piece,
)
from storage.spending import cost
from storage.sqlite import conversations, usage

TURN = rows.turn_selection(
    """
    SELECT group_concat(text, '')
    FROM (SELECT text FROM checkpoints WHERE turn = t.key ORDER BY position)
    """,
    """
    SELECT group_concat(marks, char(10))
    FROM (SELECT marks FROM checkpoints WHERE turn = t.key ORDER BY position)
    """,
)


def turn_key(connection: sqlite3.Connection, owner: str, turn_id: str) -> int:
    row = connection.execute(
        """
        SELECT t.key FROM turns t JOIN conversations c ON c.key = t.conversation
        WHERE t.owner = ? AND t.id = ? AND c.owner = t.owner
        """,
        (owner, turn_id),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no turn {turn_id!r}.", "turn_id")
    return int(row[0])


def turn(connection: sqlite3.Connection, owner: str, turn_id: str) -> Turn:
    key = turn_key(connection, owner, turn_id)
    return rows.turn(connection.execute(f"{TURN} WHERE t.key = ?", (key,)).fetchone())


def failed(
    connection: sqlite3.Connection, owner: str, turn_ids: Collection[str]
) -> Collection[str]:
    """Return those of these turns of an owner that failed."""
    found = connection.execute(
        """
        SELECT t.id FROM turns t JOIN conversations c ON c.key = t.conversation
        WHERE t.owner = ? AND t.id IN (SELECT value FROM json_each(?)) AND t.status = 'failed'
        AND c.owner = t.owner
        """,
        (owner, json.dumps(list(turn_ids))),
    )
    return {turn_id for (turn_id,) in found}


def running(connection: sqlite3.Connection) -> Sequence[tuple[str, Turn]]:
    """Return every turn that runs, with its owner."""
    owners = connection.execute(
        """
        SELECT t.owner, t.id FROM turns t JOIN conversations c ON c.key = t.conversation
        WHERE t.status = 'running' AND c.owner = t.owner ORDER BY t.key
        """
    ).fetchall()
    return [(owner, turn(connection, owner, turn_id)) for owner, turn_id in owners]


def claimed(connection: sqlite3.Connection, owner: str, claim: Claim) -> str | None:
    row = connection.execute(
        """
        SELECT claims.fingerprint, turns.id FROM claims JOIN turns ON turns.key = claims.turn
        JOIN conversations c ON c.key = turns.conversation
        WHERE claims.owner = ? AND claims.key = ? AND claims.created_at > ?
        AND c.owner = claims.owner
        """,
        (owner, claim.key, claim.now - CLAIM_LIFETIME),
    ).fetchone()
    return rows.claimed(row, claim)


def begin(
    connection: sqlite3.Connection,
    owner: str,
    new: Turn,
    question: Message | None,
    make: Conversation | None,
    title: str,
    claim: Claim | None,
    before: Sequence[Message] = (),
    head: str | EllipsisType | None = ...,
) -> Turn:
    if make is not None and not conversations.insert_conversation(connection, owner, make):
        connection.execute(
            """
            UPDATE conversations SET system_prompt = ?, model = ?
            WHERE owner = ? AND id = ? AND message_count = 0
            """,
            (make.system_prompt, make.model, owner, make.id),
        )
    key = conversations.conversation_key(connection, owner, new.conversation_id)
    if head is not ... and _head(connection, key) != head:
        raise MovedError("The conversation has a new head: plan the turn again.")
    if question is not None:
        conversations.entitle(connection, key, title)
    for message in before:
        said = conversations.insert_message(connection, owner, key, message)
        conversations.move_head(connection, key, said, new.created_at, free=new.free)
    if question is not None:
        asked = conversations.insert_message(connection, owner, key, question)
        conversations.move_head(connection, key, asked, new.created_at, free=new.free)
    else:
        asked = conversations.message_key(connection, owner, new.conversation_id, new.question_id)
    try:
        turn_key_ = insert_turn(connection, owner, key, asked, new)
    except sqlite3.IntegrityError as error:
        raise BusyError("A turn is running in this conversation.") from error
    if claim is not None:
        _insert_claim(connection, owner, claim, turn_key_)
    return turn(connection, owner, new.id)


def _head(connection: sqlite3.Connection, conversation: int) -> str | None:
    row = connection.execute(
        "SELECT m.id FROM conversations c JOIN messages m ON m.key = c.head WHERE c.key = ?",
        (conversation,),
    ).fetchone()
    return None if row is None else str(row[0])


def checkpoint(connection: sqlite3.Connection, pieces: Sequence[Piece]) -> None:
    connection.executemany(
        """
        INSERT OR REPLACE INTO checkpoints (turn, position, text, marks)
        SELECT key, ?, ?, ? FROM turns WHERE id = ? AND owner = ? AND status = 'running'
        """,
        [(one.position, one.text, marks_json(one.marks), one.turn_id, one.owner) for one in pieces],
    )


def end(connection: sqlite3.Connection, owner: str, turn_id: str, outcome: Outcome) -> Turn:
    key = turn_key(connection, owner, turn_id)
    running = turn(connection, owner, turn_id)
    if running.status is not Status.RUNNING:
        return running
    answer = None
    if outcome.said or outcome.status is Status.COMPLETED:
        answer = _insert_answer(connection, owner, running, outcome)
    settle(connection, key, outcome, answer)
    if outcome.context is not None:
        _resend(connection, key, outcome.context)
    usage.spend(connection, owner, cost(running, outcome), outcome.ended_at)
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
            completion_tokens = ?, cached_tokens = ?, reasoning_tokens = ?, error_code = ?,
            error_message = ?, error_status = ?, ended_at = ?, drift = ?
        WHERE key = ?
        """,
        (
            ended.status,
            answer,
            ended.finish_reason,
            usage and usage.prompt_tokens,
            usage and usage.completion_tokens,
            usage and usage.cached_tokens,
            usage and usage.reasoning_tokens,
            error and error.code,
            error and error.message,
            error and error.status,
            ended.ended_at,
            ended.drift,
            key,
        ),
    )


def _resend(connection: sqlite3.Connection, key: int, sent: ContextUse) -> None:
    """Write into a turn what was sent at last, where that was less than at first."""
    connection.execute(
        """
        UPDATE turns SET context_window = ?, context_budget = ?, context_prompt_tokens = ?,
            context_included = ?, context_trimmed = ?, context_counted = ?,
            context_window_known = ?
        WHERE key = ?
        """,
        (*astuple(sent), key),
    )


def _insert_answer(
    connection: sqlite3.Connection, owner: str, running: Turn, outcome: Outcome
) -> int:
    conversation = conversations.conversation_key(connection, owner, running.conversation_id)
    answer = Message(
        id=outcome.answer_id,
        conversation_id=running.conversation_id,
        parent_id=running.question_id,
        role=Role.ASSISTANT,
        content=outcome.content,
        tokens=outcome.tokens,
        encoding=outcome.encoding,
        model=running.model,
        turn_id=running.id,
        created_at=outcome.ended_at,
    )
    key = conversations.insert_message(connection, owner, conversation, answer)
    conversations.move_head(connection, conversation, key, outcome.ended_at, free=running.free)
    return key


def insert_turn(
    connection: sqlite3.Connection, owner: str, conversation: int, question: int, new: Turn
) -> int:
    cursor = connection.execute(
        """
        INSERT INTO turns (conversation, owner, id, status, model, question, context_window,
            context_budget, context_prompt_tokens, context_included, context_trimmed,
            context_counted, context_window_known, created_at, options, wire, free)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
            new.context.counted,
            new.context.window_known,
            new.created_at,
            rows.options_column(new),
            new.wire,
            new.free or None,
        ),
    )
    key = int(cursor.lastrowid or 0)
    if new.record is not None or new.deleted:
        connection.execute(
            "INSERT INTO responses (turn, record, deleted) VALUES (?, ?, ?)",
            (key, rows.object_column(new.record), new.deleted),
        )
    return key


def _insert_claim(connection: sqlite3.Connection, owner: str, claim: Claim, turn: int) -> None:
    """Claim a turn; a claim on one that was interrupted moves on to that which is begun anew."""
    outlived = claim.now - CLAIM_LIFETIME
    connection.execute(
        """
        DELETE FROM claims WHERE (owner, key) IN (
            SELECT owner, key FROM claims WHERE created_at <= ? ORDER BY created_at LIMIT ?
        )
        """,
        (outlived, FORGOTTEN_AT_ONCE),
    )
    # The same key may stand there still: outlived, or of a conversation that is being deleted.
    connection.execute(
        """
        DELETE FROM claims WHERE owner = ? AND key = ? AND (created_at <= ? OR turn IN (
            SELECT t.key FROM turns t JOIN conversations c ON c.key = t.conversation
            WHERE t.key = claims.turn AND c.owner <> t.owner
        ))
        """,
        (owner, claim.key, outlived),
    )
    cursor = connection.execute(
        """
        INSERT INTO claims (owner, key, fingerprint, turn, created_at) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (owner, key) DO UPDATE
        SET turn = excluded.turn, created_at = excluded.created_at
        WHERE fingerprint = excluded.fingerprint AND EXISTS (
            SELECT 1 FROM turns WHERE turns.key = claims.turn AND turns.status = 'interrupted'
        )
        """,
        (owner, claim.key, claim.fingerprint, turn, claim.now),
    )
    if cursor.rowcount != 1:
        raise ClaimedError("Another turn was begun with this idempotency key.")


def delete_response(connection: sqlite3.Connection, owner: str, turn_id: str) -> str | None:
    """Delete a turn as a response; return its conversation where that is left without any."""
    key = turn_key(connection, owner, turn_id)
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


def next_turn(
    connection: sqlite3.Connection, owner: str, conversation_id: str, after: str | None
) -> Turn | None:
    key = conversations.conversation_key(connection, owner, conversation_id)
    behind = 0 if after is None else _place_of(connection, owner, key, after)
    row = connection.execute(
        f"{TURN} WHERE t.conversation = ? AND t.key > ? ORDER BY t.key LIMIT 1",
        (key, behind),
    ).fetchone()
    return row and rows.turn(row)


def _place_of(connection: sqlite3.Connection, owner: str, conversation: int, turn_id: str) -> int:
    """Return a turn's key; of one that was withdrawn, that of the last one begun before it."""
    try:
        return turn_key(connection, owner, turn_id)
    except NotFoundError:
        if not turn_id.startswith("turn_"):
            raise
    row = connection.execute(
        "SELECT max(key) FROM turns WHERE conversation = ? AND id < ? AND id >= 'turn_'",
        (conversation, turn_id),
    ).fetchone()
    return int(row[0] or 0)

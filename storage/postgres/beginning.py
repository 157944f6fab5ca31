"""How a turn is begun on PostgreSQL: by one statement, whatever comes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from types import EllipsisType
from typing import Any

import asyncpg

from storage import rows
from storage.model import Conversation, Message, Status, Turn
from storage.port import (
    CLAIM_LIFETIME,
    FORGOTTEN_AT_ONCE,
    BusyError,
    Claim,
    ClaimedError,
    MovedError,
    NotFoundError,
    NotNextError,
    Outcome,
    StoreError,
    UnavailableError,
)
from storage.postgres import conversations, messages, terms, turns
from storage.postgres.database import Database, LostError
from storage.postgres.nodes.line import NEXT

_HELD = """
held AS MATERIALIZED (
    SELECT key FROM conversations WHERE owner = :owner AND id = :conversation FOR NO KEY UPDATE
), ready AS MATERIALIZED (SELECT count(*) FROM held)"""
_ASKED = "(SELECT max(key) FROM numbered)"
_UNTITLED = "(c.title = '' AND c.message_count = 0 AND :entitles::boolean)"
#: What a beginning changes in a conversation that is there.
_SETS = f"""
    title = CASE WHEN {_UNTITLED} THEN :new_title ELSE c.title END,
    words = CASE WHEN {_UNTITLED} THEN :new_words::text::tsvector ELSE c.words END,
    head = CASE WHEN :free::boolean AND NOT c.unlisted THEN c.head
        ELSE COALESCE({_ASKED}, c.head) END,
    message_count = c.message_count + (SELECT count(*) FROM numbered),
    updated_at = CASE WHEN {_ASKED} IS NULL THEN c.updated_at ELSE :now::bigint END,
    active_at = CASE WHEN {_ASKED} IS NULL THEN c.active_at ELSE :now::bigint END,
    running = c.running OR NOT :free::boolean,
    beside = c.beside + CASE WHEN :free::boolean THEN 1 ELSE 0 END"""
#: Whether we are one of the nodes: who was declared dead begins nothing under its old name.
_ALIVE = "(:node::text IS NULL OR EXISTS (SELECT FROM nodes WHERE id = :node))"
#: Whether the head is the one that the turn was planned for: two that were planned for the same
#: would part the conversation.
_PLANNED = """(
    NOT :compares::boolean OR CASE WHEN :planned_on::text IS NULL THEN c.head IS NULL
    ELSE c.head = (SELECT m.key FROM messages m WHERE m.owner = :owner AND m.id = :planned_on) END
)"""
#: Whether it may begin now: others may stand before it in line.
_AT_ONCE = f"line AS MATERIALIZED (SELECT :free::boolean OR {NEXT} AS next)"
#: One that waited is held meanwhile, so that it is either begun or withdrawn.
_CALLED = f"""
called AS MATERIALIZED (
    SELECT withdrawn FROM waiting WHERE id = :waiting FOR UPDATE
), line AS MATERIALIZED (
    SELECT NOT EXISTS (SELECT FROM called WHERE withdrawn) AND {NEXT} AS next
)"""
_NEXT = "(SELECT next FROM line)"
_THERE = f"""
there AS (
    UPDATE conversations c SET {_SETS} FROM held
    WHERE c.key = held.key AND c.owner = :owner AND {_PLANNED} AND {_ALIVE} AND {_NEXT}
    RETURNING c.key
)"""
_MADE = f"""
there AS (
    INSERT INTO conversations AS c (owner, id, title, words, system_prompt, model, metadata,
        truncation, pinned, created_at, updated_at, active_at, unlisted, head, message_count,
        running, beside)
    SELECT :owner, :conversation, :title, :title_words::text::tsvector, :system_prompt, :model,
        :metadata, :truncation, :pinned::boolean, :made_at::bigint,
        CASE WHEN {_ASKED} IS NULL THEN :updated_at::bigint ELSE :now::bigint END,
        CASE WHEN {_ASKED} IS NULL THEN :made_at::bigint ELSE :now::bigint END,
        :unlisted::boolean, {_ASKED}, (SELECT count(*) FROM numbered), NOT :free::boolean,
        CASE WHEN :free::boolean THEN 1 ELSE 0 END
    WHERE (NOT :compares::boolean OR :planned_on::text IS NULL OR EXISTS (SELECT FROM held))
        AND {_ALIVE} AND {_NEXT}
    ON CONFLICT (owner, id) DO UPDATE SET {_SETS},
        system_prompt = CASE c.message_count WHEN 0 THEN excluded.system_prompt
            ELSE c.system_prompt END,
        model = CASE c.message_count WHEN 0 THEN excluded.model ELSE c.model END
    WHERE {_PLANNED}
    RETURNING c.key
)"""
_BEGUN = """
begun AS (
    INSERT INTO turns (conversation, owner, id, status, model, question, context_window,
        context_budget, context_prompt_tokens, context_included, context_trimmed,
        context_counted, context_window_known, created_at, options, wire, free, node)
    SELECT there.key, :owner, :turn, :status, :turn_model,
        COALESCE((SELECT key FROM kept WHERE id = :question), (
            SELECT m.key FROM messages m
            WHERE m.owner = :owner AND m.id = :again AND m.conversation = there.key
        )),
        :window::bigint, :budget::bigint, :prompt_tokens::bigint, :included::bigint,
        :trimmed::bigint, :how_counted, :window_known::boolean, :now::bigint, :options, :wire,
        :free::boolean, :node
    FROM there RETURNING key
)"""
_RECORDED = """
recorded AS (
    INSERT INTO responses (turn, record) SELECT key, :record FROM begun
)"""
#: A claim that is another turn's is refused by the key of the table.
_CLAIMED = f"""
outlived AS (
    DELETE FROM claims USING (
        SELECT owner, key FROM claims
        WHERE created_at <= :outlived AND (owner, key) <> (:owner, :claim)
        ORDER BY created_at LIMIT {FORGOTTEN_AT_ONCE} FOR UPDATE SKIP LOCKED
    ) old WHERE claims.owner = old.owner AND claims.key = old.key
), reclaimed AS (
    UPDATE claims SET turn = begun.key, fingerprint = :fingerprint, created_at = :claimed_at
    FROM begun WHERE claims.owner = :owner AND claims.key = :claim AND (
        claims.created_at <= :outlived OR EXISTS (
            SELECT FROM turns t JOIN conversations c ON c.key = t.conversation
            WHERE t.key = claims.turn AND c.owner <> t.owner
        ) OR claims.fingerprint = :fingerprint AND EXISTS (
            SELECT FROM turns t WHERE t.key = claims.turn AND t.status = 'interrupted'
        )
    ) RETURNING 1
), claimed AS (
    INSERT INTO claims (owner, key, fingerprint, turn, created_at)
    SELECT :owner, :claim, :fingerprint, begun.key, :claimed_at::bigint FROM begun
    WHERE NOT EXISTS (SELECT FROM reclaimed)
)"""
_WAITS_NO_MORE = "over AS (DELETE FROM waiting USING begun WHERE waiting.id = :waiting)"
_TOLD = f"""
SELECT (SELECT key FROM begun), (SELECT count(*) FROM held), {_ALIVE},
    {_NEXT}, (
    SELECT p.id FROM messages m JOIN messages p ON p.key = m.parent
    WHERE m.owner = :owner AND m.id = :again
)"""


async def begin(
    db: Database,
    owner: str,
    new: Turn,
    question: Message | None,
    make: Conversation | None,
    title: str,
    claim: Claim | None,
    before: Sequence[Message],
    head: str | EllipsisType | None,
    waiting: str | None,
    node: str | None,
) -> Turn:
    """Keep a running turn and all that comes with it; a constraint refuses what does not fit.

    Where no answer comes it is done again: the same ids are not kept twice, so that then it is
    known to be kept. Where the database stays away the turn is interrupted once it is back.
    """
    said = [*before, question] if question else [*before]
    one = len(said) == 1
    sql = _statement(
        one=one,
        makes=make is not None,
        recorded=new.record is not None,
        claims=claim is not None,
        waited=waiting is not None,
    )
    values = {
        **_of_turn(owner, new, head, node),
        **await (messages.given_one(said[0]) if one else messages.given(said)),
        **_of_conversation(question, make, title),
        "again": None if question else new.question_id,
        **(_of_claim(claim) if claim else {}),
        **({} if waiting is None else {"waiting": waiting}),
    }
    found = await _begun_surely(db, sql, values, new, said)
    if found is None:  # what was lost was kept
        return await turns.turn(db, owner, new.id)
    parent = question.parent_id if question else found[0]
    return replace(new, parent_id=parent, answer_id=None, answer="")


def _statement(*, one: bool, makes: bool, recorded: bool, claims: bool, waited: bool) -> str:
    """Return the one statement of a beginning, with no more in it than it needs."""
    numbered, keeps = (
        (messages.NUMBERED_ONE, messages.KEPT_ONE) if one else (messages.NUMBERED, messages.KEPT)
    )
    line = _CALLED if waited else _AT_ONCE
    parts = [_HELD, line, numbered, _MADE if makes else _THERE, keeps, _BEGUN]
    parts += [_WAITS_NO_MORE] if waited else []
    parts += [_RECORDED] if recorded else []
    parts += [_CLAIMED] if claims else []
    return f"WITH {', '.join(parts)} {_TOLD}"


async def _begun_surely(
    db: Database, sql: str, values: dict[str, Any], new: Turn, said: Sequence[Message]
) -> Sequence[Any] | None:
    """Begin a turn, again where no answer came; None where it was kept then."""
    try:
        return await _begun(db, sql, values, new, said)
    except LostError:
        return await _begun_again(db, sql, values, new, said)


async def _begun(
    db: Database, sql: str, values: dict[str, Any], new: Turn, said: Sequence[Message]
) -> Sequence[Any]:
    try:
        found = await db.row(sql, **values)
    except asyncpg.IntegrityConstraintViolationError as error:
        raise _refused(error, new, said) from error
    key, held, alive, is_next, *told = found or (None, 0, True, True)
    if key is not None:
        return told
    if not alive:
        raise UnavailableError("This server was taken for dead; it is back in a moment.")
    if not is_next:
        raise NotNextError("Others wait in this conversation.")
    if held or "made_at" in values:  # what was to be made is there, and was not when we looked
        raise MovedError("The conversation has a new head: plan the turn again.")
    raise NotFoundError(f"There is no conversation {new.conversation_id!r}.", "conversation_id")


async def _begun_again(
    db: Database, sql: str, values: dict[str, Any], new: Turn, said: Sequence[Message]
) -> Sequence[Any] | None:
    """Begin what may be begun already; None where it is."""
    owner = values["owner"]
    try:
        return await _begun(db, sql, values, new, said)
    except UnavailableError:
        db.later(_interrupt(db, owner, new))
        raise
    except (StoreError, asyncpg.PostgresError) as error:
        try:
            await turns.turn(db, owner, new.id)
        except NotFoundError:
            raise error from None
        return None


async def _interrupt(db: Database, owner: str, new: Turn) -> None:
    """Interrupt a turn that was begun, it may be, and whose asker was told that it was not.

    One that is not there may yet come: only the answer was lost, and the statement may still be at
    work. It is looked for as long as an answer would be waited for.
    """
    interrupted = Outcome(Status.INTERRUPTED, "", "", 0, "", new.created_at)
    now, until = asyncio.get_running_loop().time, inf
    while now() < until:
        try:
            if (await turns.end(db, owner, new.id, interrupted)).status is not Status.RUNNING:
                return
        except NotFoundError:
            until = min(until, now() + db.where.patience.answer)
        except UnavailableError:
            until = inf
        await asyncio.sleep(db.where.patience.look)


def _of_turn(
    owner: str, new: Turn, head: str | EllipsisType | None, node: str | None
) -> dict[str, Any]:
    return {
        "owner": owner,
        "node": node,
        "conversation": new.conversation_id,
        "turn": new.id,
        "status": new.status,
        "turn_model": new.model,
        "window": new.context.window,
        "budget": new.context.budget,
        "prompt_tokens": new.context.prompt_tokens,
        "included": new.context.messages_included,
        "trimmed": new.context.messages_trimmed,
        "how_counted": new.context.counted,
        "window_known": new.context.window_known,
        "now": new.created_at,
        "options": rows.options_column(new),
        "wire": new.wire,
        "free": new.free,
        **({} if new.record is None else {"record": rows.object_column(new.record)}),
        "compares": head is not ...,
        "planned_on": None if head is ... else head,
    }


def _of_conversation(
    question: Message | None, make: Conversation | None, title: str
) -> dict[str, Any]:
    entitles = bool(question and title)
    made = make and conversations.given(make, make.title or (title if entitles else ""))
    return {
        "question": question and question.id,
        "entitles": entitles,
        "new_title": title,
        "new_words": terms.vector(title),
        **(made or {}),
    }


def _of_claim(claim: Claim) -> dict[str, Any]:
    return {
        "claim": claim.key,
        "fingerprint": claim.fingerprint,
        "claimed_at": claim.now,
        "outlived": claim.now - CLAIM_LIFETIME,
    }


def _refused(
    error: asyncpg.IntegrityConstraintViolationError, new: Turn, said: Sequence[Message]
) -> Exception:
    """Return what the constraint that refused a beginning stands for."""
    match error.constraint_name or error.column_name:
        case "turns_one_running":
            return BusyError("A turn is running in this conversation.")
        case "claims_pkey":
            return ClaimedError("Another turn was begun with this idempotency key.")
        case "messages_parent":
            return messages.no_message(said[0].parent_id)
        case "question":
            return messages.no_message(new.question_id)
    return error

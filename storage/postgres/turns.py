"""Turns of PostgreSQL: checkpointed and ended by one statement each, and read.

Whoever writes in a conversation locks its row first, so that none waits for another in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from random import randrange
from typing import Any

from storage import rows
from storage.model import ContextUse, Failure, Status, Turn
from storage.parts import marks_json
from storage.port import (
    CLAIM_LIFETIME,
    Claim,
    NotFoundError,
    Outcome,
    Piece,
)
from storage.postgres import conversations, messages
from storage.postgres.database import Database
from storage.ranking import text_of
from storage.spending import DAY, MOST

#: What was checkpointed of a running turn, or what was rescued of it, whichever is more.
_SO_FAR = """
SELECT {} FROM (
    SELECT string_agg(text, '' ORDER BY position) AS text,
        string_agg(marks, E'\\n' ORDER BY position) AS marks FROM checkpoints WHERE turn = t.key
    UNION ALL SELECT text, marks FROM rescues WHERE turn = t.key
) known ORDER BY length(text) DESC NULLS LAST LIMIT 1
"""
TURN = rows.turn_selection(_SO_FAR.format("text"), _SO_FAR.format("marks"))
#: Turns that nobody writes: what wrote them is none of the nodes.
_ORPHANED = "NOT EXISTS (SELECT FROM nodes WHERE nodes.id = t.node)"
#: How many rows an owner's day of tokens is spread over.
SLOTS = 16


async def checkpoint(db: Database, pieces: Sequence[Piece], node: str | None) -> None:
    """Keep pieces of running answers, in an order in which no two of us wait for each other.

    Those of turns that another node writes are passed over, and of turns that were ended.
    """
    latest = {(one.owner, one.turn_id, one.position): one for one in pieces}
    await db.rows(
        """
        INSERT INTO checkpoints (turn, position, text, marks)
        SELECT t.key, p.position, p.text, p.marks
        FROM unnest(:owners::text[], :turns::text[], :positions::bigint[], :texts::text[],
            :marks::text[]) AS p (owner, id, position, text, marks)
        JOIN turns t ON t.owner = p.owner AND t.id = p.id AND t.status = 'running'
        AND t.node IS NOT DISTINCT FROM :node
        ORDER BY t.key, p.position
        ON CONFLICT (turn, position) DO UPDATE SET text = excluded.text, marks = excluded.marks
        """,
        owners=[owner for owner, _, _ in latest],
        turns=[turn_id for _, turn_id, _ in latest],
        positions=[position for _, _, position in latest],
        texts=[one.text for one in latest.values()],
        marks=[marks_json(one.marks) for one in latest.values()],
        node=node,
    )


async def sweep(db: Database) -> None:
    """Delete the pieces that were kept while their turn was being ended: nobody reads them."""
    for table in ("checkpoints", "rescues"):
        await db.rows(
            f"""
            DELETE FROM {table} WHERE NOT EXISTS (
                SELECT FROM turns WHERE turns.key = {table}.turn AND status = 'running'
            )
            """
        )


#: The first step is the one that only one of many takes: what follows hangs on its row.
_END = """
WITH held AS MATERIALIZED (
    SELECT c.key, c.id FROM turns t JOIN conversations c ON c.key = t.conversation
    WHERE t.owner = :owner AND t.id = :turn AND c.owner = t.owner FOR NO KEY UPDATE OF c
), numbered AS MATERIALIZED (
    SELECT nextval('message_keys') AS key FROM held WHERE :answered::boolean
), ended AS (
    UPDATE turns t SET status = :status, answer = (SELECT key FROM numbered),
        finish_reason = :finish_reason, prompt_tokens = :prompt_tokens,
        completion_tokens = :completion_tokens, cached_tokens = :cached_tokens,
        reasoning_tokens = :reasoning_tokens, error_code = :error_code,
        error_message = :error_message, error_status = :error_status, ended_at = :ended_at,
        drift = :drift,
        context_window = COALESCE(:window::bigint, t.context_window),
        context_budget = COALESCE(:budget::bigint, t.context_budget),
        context_prompt_tokens = COALESCE(:sent::bigint, t.context_prompt_tokens),
        context_included = COALESCE(:included::bigint, t.context_included),
        context_trimmed = COALESCE(:trimmed::bigint, t.context_trimmed),
        context_counted = CASE WHEN :resent::boolean THEN :how_counted ELSE t.context_counted END,
        context_window_known = CASE WHEN :resent::boolean THEN :window_known::boolean
            ELSE t.context_window_known END
    FROM held WHERE t.owner = :owner AND t.id = :turn AND t.conversation = held.key
        AND t.status = 'running'
    RETURNING t.*
), kept AS (
    INSERT INTO messages (key, conversation, parent, depth, tokens, encoding, role, created_at,
        owner, id, model, turn_id, is_parts, content, spoken, words)
    SELECT numbered.key, ended.conversation, ended.question, q.depth + 1, :tokens::bigint,
        :encoding, 'assistant', :ended_at::bigint, :owner, :answer, ended.model, ended.id,
        :is_parts::boolean, :content, :spoken, :words::text::tsvector
    FROM ended CROSS JOIN numbered JOIN messages q ON q.key = ended.question
), moved AS (
    UPDATE conversations c SET running = c.running AND ended.free,
        beside = c.beside - CASE WHEN ended.free THEN 1 ELSE 0 END,
        head = CASE WHEN ended.free AND NOT c.unlisted THEN c.head
            ELSE COALESCE(ended.answer, c.head) END,
        updated_at = CASE WHEN :answered::boolean THEN :ended_at::bigint ELSE c.updated_at END,
        active_at = CASE WHEN :answered::boolean THEN :ended_at::bigint ELSE c.active_at END,
        message_count = c.message_count + CASE WHEN :answered::boolean THEN 1 ELSE 0 END
    FROM ended WHERE c.key = ended.conversation
), spent AS (
    INSERT INTO spending AS s (owner, day, slot, tokens)
    SELECT :owner, :day::bigint, :slot::smallint, LEAST(took, :most::bigint) FROM (
        SELECT COALESCE(:took::bigint, context_prompt_tokens + :tokens::bigint) AS took FROM ended
    ) used WHERE took > 0
    ON CONFLICT (owner, day, slot)
    DO UPDATE SET tokens = LEAST(s.tokens + excluded.tokens, :most::bigint)
), gone AS (
    DELETE FROM checkpoints USING ended WHERE checkpoints.turn = ended.key
), unneeded AS (
    DELETE FROM rescues USING ended WHERE rescues.turn = ended.key
)
SELECT held.id, e.model, p.id, q.id, e.created_at, e.context_window, e.context_budget,
    e.context_prompt_tokens, e.context_included, e.context_trimmed, e.context_counted,
    e.context_window_known, e.options, e.wire, e.free, r.record, r.deleted
FROM ended e CROSS JOIN held JOIN messages q ON q.key = e.question
LEFT JOIN messages p ON p.key = q.parent LEFT JOIN responses r ON r.turn = e.key
"""


async def end(db: Database, owner: str, turn_id: str, outcome: Outcome) -> Turn:
    """Keep how a turn ended; who comes second gets the end that there is."""
    answered = outcome.said or outcome.status is Status.COMPLETED
    content = outcome.content
    is_parts, text = rows.content_columns(content)
    spoken = None if isinstance(content, str) else text_of(content)
    (words,) = await messages.vectors([text if spoken is None else spoken])
    usage, error = outcome.usage, outcome.error
    found = await db.row(
        _END,
        owner=owner,
        turn=turn_id,
        status=outcome.status,
        answered=answered,
        finish_reason=outcome.finish_reason,
        prompt_tokens=usage and usage.prompt_tokens,
        completion_tokens=usage and usage.completion_tokens,
        cached_tokens=usage and usage.cached_tokens,
        reasoning_tokens=usage and usage.reasoning_tokens,
        error_code=error and error.code,
        error_message=error and error.message,
        error_status=error and error.status,
        ended_at=outcome.ended_at,
        drift=outcome.drift,
        tokens=outcome.tokens,
        encoding=outcome.encoding,
        answer=outcome.answer_id,
        is_parts=bool(is_parts),
        content=text,
        spoken=spoken,
        words=words,
        day=outcome.ended_at // DAY,
        slot=randrange(SLOTS),  # noqa: S311 - no secret: any row will do
        took=_took(outcome),
        most=MOST,
        **_resent(outcome.context),
    )
    if found is None:
        return await turn(db, owner, turn_id)
    return _ended(found, turn_id, outcome, outcome.answer_id if answered else None)


def _resent(sent: ContextUse | None) -> Mapping[str, Any]:
    """Return the values of what was sent at last, where that is not what the turn began with."""
    return {
        "resent": sent is not None,
        "window": sent and sent.window,
        "budget": sent and sent.budget,
        "sent": sent and sent.prompt_tokens,
        "included": sent and sent.messages_included,
        "trimmed": sent and sent.messages_trimmed,
        "how_counted": sent and sent.counted,
        "window_known": sent and sent.window_known,
    }


def _took(outcome: Outcome) -> int | None:
    """Return the tokens that a turn took; None: what was sent, and what was said."""
    if outcome.status is Status.FAILED and not outcome.said:
        return 0
    return None if outcome.usage is None else min(outcome.usage.total_tokens, MOST)


def _ended(found: Sequence[Any], turn_id: str, outcome: Outcome, answer_id: str | None) -> Turn:
    error = outcome.error
    return Turn(
        id=turn_id,
        conversation_id=found[0],
        status=outcome.status,
        model=found[1],
        parent_id=found[2],
        question_id=found[3],
        answer_id=answer_id,
        answer="",
        context=ContextUse(*found[5:12]),
        created_at=found[4],
        finish_reason=outcome.finish_reason,
        usage=outcome.usage,
        error=error and Failure(error.code, error.message, error.status),
        ended_at=outcome.ended_at,
        drift=outcome.drift,
        options={} if found[12] is None else json.loads(found[12]),
        wire=found[13],
        free=found[14],
        record=None if found[15] is None else json.loads(found[15]),
        deleted=bool(found[16]),
    ).saying("" if answer_id is None else outcome.content)


async def turn(db: Database, owner: str, turn_id: str) -> Turn:
    found = await db.row(
        f"{TURN} WHERE t.owner = :owner AND t.id = :id AND c.owner = t.owner",
        owner=owner,
        id=turn_id,
    )
    if found is None:
        raise NotFoundError(f"There is no turn {turn_id!r}.", "turn_id")
    return rows.turn(found)


async def failed(db: Database, owner: str, turn_ids: Collection[str]) -> Collection[str]:
    """Return those of these turns of an owner that failed."""
    found = await db.rows(
        """
        SELECT t.id FROM turns t JOIN conversations c ON c.key = t.conversation
        WHERE t.owner = :owner AND t.id = ANY (:ids::text[]) AND t.status = 'failed'
        AND c.owner = t.owner
        """,
        owner=owner,
        ids=list(turn_ids),
    )
    return {turn_id for (turn_id,) in found}


async def running(db: Database, *, orphans: bool = False) -> Sequence[tuple[str, Turn]]:
    """Return every turn that runs, with its owner; or those alone that nobody writes any more."""
    found = await db.rows(
        TURN.replace("SELECT", "SELECT t.owner,", 1)
        + "WHERE t.status = 'running' AND c.owner = t.owner "
        + (f"AND {_ORPHANED} " if orphans else "")
        + "ORDER BY t.key"
    )
    return [(row[0], rows.turn(row[1:])) for row in found]


async def in_order(
    db: Database, owner: str, conversation_id: str, after: str | None, limit: int
) -> Sequence[Turn]:
    """Return turns in the order of their beginning, behind the turn `after`."""
    behind = (
        ""
        if after is None
        else "AND t.key > (SELECT key FROM turns WHERE owner = :owner AND id = :after)"
    )
    found = await db.rows(
        f"{TURN} WHERE t.conversation = {conversations.NAMED} {behind} ORDER BY t.key LIMIT :limit",
        owner=owner,
        conversation=conversation_id,
        after=after,
        limit=limit,
    )
    if not found:
        await conversations.conversation_key(db, owner, conversation_id)
        if after is not None:
            await turn(db, owner, after)
    return [rows.turn(row) for row in found]


#: Where a turn stands; of one that was withdrawn, where the last one begun before it stands.
_PLACE = f"""COALESCE((SELECT key FROM turns WHERE owner = :owner AND id = :after), (
    SELECT max(key) FROM turns WHERE conversation = {conversations.NAMED}
    AND id COLLATE "C" < :after AND id COLLATE "C" >= 'turn_'
), 0)"""


async def next_turn(
    db: Database, owner: str, conversation_id: str, after: str | None
) -> Turn | None:
    """Return the turn begun next after the turn `after`, which may have been withdrawn."""
    if after is None or not after.startswith("turn_"):
        found = await in_order(db, owner, conversation_id, after, 1)
        return found[0] if found else None
    row = await db.row(
        f"{TURN} WHERE t.conversation = {conversations.NAMED} AND t.key > {_PLACE} "
        "ORDER BY t.key LIMIT 1",
        owner=owner,
        conversation=conversation_id,
        after=after,
    )
    if row is None:
        await conversations.conversation_key(db, owner, conversation_id)
        return None
    return rows.turn(row)


async def last(db: Database, owner: str, conversation_id: str) -> Turn | None:
    found = await db.row(
        f"{TURN} WHERE t.conversation = {conversations.NAMED} ORDER BY t.key DESC LIMIT 1",
        owner=owner,
        conversation=conversation_id,
    )
    if found is None:
        await conversations.conversation_key(db, owner, conversation_id)
        return None
    return rows.turn(found)


async def claimed(db: Database, owner: str, claim: Claim) -> str | None:
    found = await db.row(
        """
        SELECT claims.fingerprint, t.id FROM claims JOIN turns t ON t.key = claims.turn
        JOIN conversations c ON c.key = t.conversation
        WHERE claims.owner = :owner AND claims.key = :claim AND claims.created_at > :outlived
        AND c.owner = claims.owner
        """,
        owner=owner,
        claim=claim.key,
        outlived=claim.now - CLAIM_LIFETIME,
    )
    return rows.claimed(found, claim)

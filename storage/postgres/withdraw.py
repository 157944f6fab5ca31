"""The statement that takes a turn back, as if it had not been begun."""

from __future__ import annotations

from storage.postgres import turns
from storage.postgres.database import Database, LostError

#: The turn's own messages are its question and what was kept right before that, as long as nothing
#: else stands below. The conversation goes too where the turn made it and leaves it empty.
_WITHDRAW = """
WITH RECURSIVE held AS MATERIALIZED (
    SELECT c.key FROM turns t JOIN conversations c ON c.key = t.conversation
    WHERE t.owner = :owner AND t.id = :turn AND c.owner = t.owner FOR NO KEY UPDATE OF c
), taken AS (
    DELETE FROM turns t USING held WHERE t.owner = :owner AND t.id = :turn
        AND t.conversation = held.key AND t.status = 'running'
    RETURNING t.key, t.conversation, t.question, t.created_at, t.free
), own (key, parent, place) AS (
    SELECT m.key, m.parent, 1 FROM taken JOIN messages m ON m.key = taken.question
    WHERE m.turn_id = :turn AND NOT EXISTS (
        SELECT FROM messages b WHERE b.conversation = taken.conversation AND b.parent = m.key
    )
    UNION ALL
    SELECT m.key, m.parent, place + 1
    FROM own CROSS JOIN taken JOIN messages m ON m.key = own.parent
    WHERE (m.turn_id = :turn OR m.turn_id IS NULL AND m.created_at = taken.created_at)
    AND NOT EXISTS (
        SELECT FROM messages b WHERE b.conversation = taken.conversation AND b.parent = m.key
        AND b.key <> own.key
    )
), back AS MATERIALIZED (
    SELECT taken.conversation, taken.created_at, taken.free,
        (SELECT count(*) FROM own) AS messages, COALESCE(
        (SELECT m.key FROM messages m WHERE m.owner = :owner AND m.id = :head
            AND m.conversation = taken.conversation AND m.key NOT IN (SELECT key FROM own)),
        (SELECT parent FROM own ORDER BY place DESC LIMIT 1)
    ) AS head FROM taken
), gone_checkpoints AS (DELETE FROM checkpoints USING taken WHERE turn = taken.key),
gone_rescues AS (DELETE FROM rescues USING taken WHERE turn = taken.key),
gone_claims AS (DELETE FROM claims USING taken WHERE turn = taken.key),
gone_responses AS (DELETE FROM responses USING taken WHERE turn = taken.key),
gone_messages AS (DELETE FROM messages USING own WHERE messages.key = own.key),
gone AS (
    DELETE FROM conversations c USING back WHERE c.key = back.conversation
    AND c.message_count = back.messages AND c.created_at = back.created_at
), left_behind AS (
    UPDATE conversations c SET running = c.running AND back.free,
        beside = c.beside - CASE WHEN back.free THEN 1 ELSE 0 END,
        message_count = c.message_count - back.messages,
        head = CASE WHEN back.messages = 0 OR back.free AND NOT c.unlisted THEN c.head
            ELSE back.head END,
        active_at = CASE back.messages WHEN 0 THEN c.active_at ELSE COALESCE(
            (SELECT m.created_at FROM messages m WHERE m.key = back.head), c.created_at
        ) END,
        title = CASE WHEN c.message_count = back.messages AND c.title = :title THEN ''
            ELSE c.title END,
        words = CASE WHEN c.message_count = back.messages AND c.title = :title THEN ''::tsvector
            ELSE c.words END
    FROM back WHERE c.key = back.conversation
    AND NOT (c.message_count = back.messages AND c.created_at = back.created_at)
)
SELECT key FROM held
"""


async def withdraw(db: Database, owner: str, turn_id: str, head_id: str | None, title: str) -> None:
    """Take back a running turn with all that was kept with it; see Store.

    Where no answer comes it is done again, and a turn that is gone then was taken back.
    """
    values = {"owner": owner, "turn": turn_id, "head": head_id, "title": title}
    try:
        found = await db.row(_WITHDRAW, **values)
    except LostError:
        await db.row(_WITHDRAW, **values)
        return
    if found is None:
        await turns.turn(db, owner, turn_id)

"""Conversations of PostgreSQL: made, read, changed, hidden and purged."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import asyncpg

from storage import rows
from storage.model import Conversation, Message, Order, Page
from storage.port import AlreadyExistsError, BusyError, NotFoundError, UnavailableError
from storage.postgres import messages, search, terms
from storage.postgres.database import Database

#: Who owns what is being deleted or imported: no text that we keep can be this (see escapes.py).
NOBODY = "chr(26)"
#: The key of the conversation that is named; known first, so that its messages are walked in order.
NAMED = "(SELECT key FROM conversations WHERE owner = :owner AND id = :conversation)"
#: When a conversation was last active, whichever release wrote it.
ACTIVE = "COALESCE(c.active_at, c.updated_at)"
#: By what conversations are listed, each of it the greatest first.
_ORDERS = {
    Order.CREATED: ("c.created_at", "c.key"),
    Order.ACTIVITY: ("c.pinned", ACTIVE, "c.key"),
}
#: How many messages and turns one statement of an import or a deletion is about.
STEP_ROWS = 1_000
#: An import of which no step was taken for so long, by the database's clock, was abandoned.
ABANDONED = "interval '60 seconds'"


async def conversation_key(db: Database, owner: str, conversation_id: str) -> int:
    found = await find(db, owner, conversation_id)
    if found is None:
        raise NotFoundError(f"There is no conversation {conversation_id!r}.", "conversation_id")
    return found


async def find(db: Database, owner: str, conversation_id: str) -> int | None:
    """Return the key of a conversation, if it is there."""
    found = await db.row(
        "SELECT key FROM conversations WHERE owner = :owner AND id = :id",
        owner=owner,
        id=conversation_id,
    )
    return None if found is None else int(found[0])


async def conversation(db: Database, owner: str, conversation_id: str) -> Conversation:
    found = await db.row(
        f"{rows.CONVERSATION} WHERE c.owner = :owner AND c.id = :id",
        owner=owner,
        id=conversation_id,
    )
    if found is None:
        raise NotFoundError(f"There is no conversation {conversation_id!r}.", "conversation_id")
    return rows.conversation(found)


def given(new: Conversation, title: str) -> Mapping[str, Any]:
    """Return the values of a statement that makes a conversation."""
    return {
        "title": title,
        "title_words": terms.vector(title),
        "system_prompt": new.system_prompt,
        "model": new.model,
        "metadata": rows.json_text(new.metadata),
        "truncation": new.truncation,
        "pinned": new.pinned,
        "made_at": new.created_at,
        "updated_at": new.updated_at,
        "unlisted": new.unlisted,
    }


async def create(db: Database, owner: str, new: Conversation) -> Conversation:
    made = await db.row(
        """
        INSERT INTO conversations (owner, id, title, words, system_prompt, model, metadata,
            truncation, pinned, created_at, updated_at, active_at, unlisted)
        VALUES (:owner, :id, :title, :title_words::text::tsvector, :system_prompt, :model,
            :metadata, :truncation, :pinned, :made_at, :updated_at, :made_at, :unlisted)
        ON CONFLICT (owner, id) DO NOTHING RETURNING key
        """,
        owner=owner,
        id=new.id,
        **given(new, new.title),
    )
    if made is None:
        raise AlreadyExistsError(f"There is a conversation {new.id!r} already.", "id")
    return new


async def update(
    db: Database, owner: str, conversation_id: str, changes: Mapping[str, Any], now: int
) -> Conversation:
    values: dict[str, Any] = {"owner": owner, "id": conversation_id, "updated_at": now}
    sets, further = ["updated_at = :updated_at", f"active_at = {ACTIVE}"], ""
    for name, value in changes.items():
        match name:
            case "head_id":
                values["new_head"] = value
                head = (
                    "(SELECT m.key FROM messages m WHERE m.owner = :owner AND m.id = :new_head "
                    "AND m.conversation = c.key)"
                )
                sets.append(f"head = {head}")
                further = f"AND {head} IS NOT NULL"
            case "metadata":
                values[name] = rows.json_text(value)
                sets.append("metadata = :metadata")
            case "title":
                values |= {"title": value, "title_words": terms.vector(value)}
                sets += ["title = :title", "words = :title_words::text::tsvector"]
            case "system_prompt" | "model" | "truncation" | "pinned":
                values[name] = value
                sets.append(f"{name} = :{name}")
            case _:
                raise KeyError(name)
    changed = await db.row(
        f"UPDATE conversations c SET {', '.join(sets)} "
        f"WHERE c.owner = :owner AND c.id = :id {further} RETURNING c.key",
        **values,
    )
    there = await conversation(db, owner, conversation_id)
    if changed is None:
        raise messages.no_message(changes.get("head_id"))
    return there


async def page(
    db: Database,
    owner: str,
    limit: int,
    after: str | None,
    q: str | None,
    order: Order,
    *,
    pieces: bool,
) -> Page[Conversation]:
    behind = None if after is None else await conversation_key(db, owner, after)
    if q:
        found = await search.titled(db, owner, q, limit + 1, behind, pieces=pieces)
    else:
        place = ", ".join(_ORDERS[order])
        further = (
            ""
            if behind is None
            else f"AND ({place}) < (SELECT {place} FROM conversations c WHERE c.key = :behind)"
        )
        found = await db.rows(
            f"{rows.CONVERSATION} WHERE c.owner = :owner AND NOT c.unlisted {further} "
            f"ORDER BY {', '.join(f'{one} DESC' for one in _ORDERS[order])} LIMIT :limit",
            owner=owner,
            behind=behind,
            limit=limit + 1,
        )
    return Page(tuple(rows.conversation(row) for row in found[:limit]), len(found) > limit)


async def delete(db: Database, owner: str, conversation_id: str) -> None:
    """Hide and purge; once it is hidden the deletion is true, whatever becomes of the purge."""
    key = await hide(db, owner, conversation_id)
    with suppress(UnavailableError):
        await purge(db, key)


async def hide(db: Database, owner: str, conversation_id: str) -> int:
    """Take a conversation and all that hangs on it from everybody; `purge` deletes it."""
    hidden = await db.row(
        f"""
        UPDATE conversations c SET owner = {NOBODY}, id = c.key::text
        WHERE c.owner = :owner AND c.id = :id AND NOT c.running AND c.beside = 0
        RETURNING c.key
        """,
        owner=owner,
        id=conversation_id,
    )
    if hidden is None:
        await conversation_key(db, owner, conversation_id)
        raise BusyError("A turn is running in this conversation.")
    return int(hidden[0])


async def purge(db: Database, key: int, *, own_import: bool = False) -> None:
    """Delete a hidden conversation, a step a statement; one that is shown is left alone, and so
    is one that somebody imports.
    """
    while True:
        gone = await db.row(
            f"""
            WITH hidden AS MATERIALIZED (
                SELECT key FROM conversations WHERE key = :key AND owner = {NOBODY} AND (
                    :own OR importing IS NULL OR importing < now() - {ABANDONED}
                ) FOR UPDATE
            ), t AS MATERIALIZED (
                SELECT turns.key FROM hidden JOIN turns ON turns.conversation = hidden.key
                LIMIT {STEP_ROWS}
            ), m AS MATERIALIZED (
                SELECT messages.key FROM hidden JOIN messages ON messages.conversation = hidden.key
                LIMIT {STEP_ROWS}
            ),
            gone_checkpoints AS (DELETE FROM checkpoints USING t WHERE turn = t.key),
            gone_claims AS (DELETE FROM claims USING t WHERE turn = t.key),
            gone_responses AS (DELETE FROM responses USING t WHERE turn = t.key),
            gone_turns AS (DELETE FROM turns USING t WHERE turns.key = t.key),
            gone_messages AS (DELETE FROM messages USING m WHERE messages.key = m.key),
            gone AS (
                DELETE FROM conversations USING hidden WHERE conversations.key = hidden.key
                AND NOT EXISTS (SELECT FROM t) AND NOT EXISTS (SELECT FROM m)
            )
            SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM m)
            """,
            key=key,
            own=own_import,
        )
        if gone is None or not gone[0]:
            return


async def purge_all(db: Database) -> None:
    """Delete whatever is hidden and nobody's concern: a process died, or is at it itself."""
    found = await db.rows(
        f"""
        SELECT key FROM conversations WHERE owner = {NOBODY}
        AND (importing IS NULL OR importing < now() - {ABANDONED})
        """
    )
    for (key,) in found:
        await purge(db, key)


async def summarise(db: Database, owner: str, summary: Message) -> Message:
    """Keep a summary; it moves no head and counts as no message."""
    try:
        kept = await db.row(
            f"""
            WITH there AS MATERIALIZED (
                SELECT key FROM conversations WHERE owner = :owner AND id = :conversation
                FOR NO KEY UPDATE
            ), ready AS MATERIALIZED (SELECT count(*) FROM there),
            {messages.NUMBERED}, {messages.KEPT} SELECT key FROM kept
            """,
            owner=owner,
            conversation=summary.conversation_id,
            **await messages.given([summary]),
        )
    except asyncpg.CheckViolationError as error:
        raise messages.no_message(summary.parent_id) from error
    if kept is None:
        raise NotFoundError(
            f"There is no conversation {summary.conversation_id!r}.", "conversation_id"
        )
    return summary

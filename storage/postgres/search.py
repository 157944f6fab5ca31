"""Full-text search on PostgreSQL: any piece of a text where there are trigrams, else beginnings of
words; newest matches ranked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from storage import ranking, rows
from storage.model import Hit, Page, Query
from storage.postgres import terms
from storage.postgres.database import Database, Row

#: What is searched of a message, as the index of its pieces has it, and of a conversation.
_MESSAGE, _TITLE = "lower(COALESCE(m.spoken, m.content))", "lower(c.title)"


async def has_pieces(db: Database) -> bool:
    """Say whether this database has the index of pieces (see schema/0002_pieces.sql)."""
    found = await db.row(
        "SELECT to_regclass('messages_pieces') IS NOT NULL"
        " AND to_regclass('conversations_pieces') IS NOT NULL"
    )
    return bool(found and found[0])


async def titled(
    db: Database, owner: str, words: str, limit: int, behind: int | None, *, pieces: bool
) -> Sequence[Row]:
    """Return conversations by title, those kept last first."""
    match = _match(_TITLE, "c.words", words, pieces=pieces)
    if match is None:
        return []
    condition, values = match
    return await db.rows(
        f"""
        WITH found AS MATERIALIZED (
            SELECT c.key FROM conversations c WHERE c.owner = :owner AND c.key < :below
            AND NOT c.unlisted AND {condition}
        )
        {rows.CONVERSATION} JOIN found ON found.key = c.key ORDER BY c.key DESC LIMIT :limit
        """,
        owner=owner,
        below=(1 << 62) if behind is None else behind,
        limit=limit,
        **values,
    )


async def find(
    db: Database, owner: str, query: Query, limit: int, after: str | None, *, pieces: bool
) -> Page[Hit]:
    """Return a page of hits: window after window of the newest matches, the best of each first."""
    pager = ranking.Pager(limit, after)
    async for window in _windows(db, owner, query, pieces=pieces):
        if not pager.feed(window):
            break
    return pager.page()


async def _windows(
    db: Database, owner: str, query: Query, *, pieces: bool
) -> AsyncIterator[Sequence[Hit]]:
    first = await _found_titles(db, owner, query, pieces=pieces)
    below: int | None = 1 << 62
    while below is not None:
        hits, below = await _found_messages(db, owner, query, below, pieces=pieces)
        yield [*first, *hits]
        first = []


async def _found_messages(
    db: Database, owner: str, query: Query, below: int, *, pieces: bool
) -> tuple[Sequence[Hit], int | None]:
    """Return the hits among the newest matches below a key, and the last key if there is more."""
    match = _match(_MESSAGE, "m.words", query.words, pieces=pieces)
    if match is None:
        return [], None
    condition, values = match
    conditions, given = _conditions(query)
    found = await db.rows(
        f"""
        WITH found AS MATERIALIZED (
            SELECT m.key FROM messages m WHERE m.owner = :owner AND m.key < :below
            AND {condition}
        )
        SELECT {rows.MESSAGE_COLUMNS}, c.title, m.key
        FROM found JOIN messages m ON m.key = found.key
        JOIN conversations c ON c.key = m.conversation
        LEFT JOIN messages p ON p.key = m.parent
        WHERE c.owner = :owner {conditions} ORDER BY m.key DESC LIMIT {ranking.WINDOW}
        """,
        owner=owner,
        below=below,
        **values,
        **given,
    )
    hits = await asyncio.to_thread(_hits, found, query.words.split())
    return hits, found[-1][-1] if len(found) == ranking.WINDOW else None


def _hits(found: Sequence[Row], words: Sequence[str]) -> Sequence[Hit]:
    """Rank messages; their texts may be long, so this is not for the loop's thread."""
    hits = []
    for row in found:
        message = rows.message(row)
        text = ranking.text_of(message.content)
        score = ranking.score(text, words)
        if score is not None:
            shown = ranking.snippet(text, words)
            hits.append(Hit(message, message.conversation_id, row[-2], shown, score))
    return hits


async def _found_titles(db: Database, owner: str, query: Query, *, pieces: bool) -> Sequence[Hit]:
    match, words = _match(_TITLE, "c.words", query.words, pieces=pieces), query.words.split()
    if match is None or query.role is not None:
        return []
    condition, values = match
    conditions, given = _conditions(query)
    found = await db.rows(
        f"""
        WITH found AS MATERIALIZED (
            SELECT c.key FROM conversations c WHERE c.owner = :owner AND {condition}
        )
        SELECT {rows.MESSAGE_COLUMNS}, c.title, c.id
        FROM found JOIN conversations c ON c.key = found.key
        LEFT JOIN LATERAL (
            SELECT * FROM messages WHERE conversation = c.key AND parent IS NULL
            ORDER BY key LIMIT 1
        ) m ON true
        LEFT JOIN messages p ON p.key = m.parent
        WHERE c.owner = :owner {conditions} ORDER BY c.key DESC LIMIT {ranking.WINDOW}
        """,
        owner=owner,
        **values,
        **given,
    )
    hits = []
    for row in found:
        title, conversation_id = row[-2:]
        score = ranking.score(title, words)
        if score is not None:
            message = None if row[0] is None else rows.message(row)
            shown = ranking.snippet(title, words)
            weighed = ranking.TITLE_WEIGHT * score
            hits.append(Hit(message, conversation_id, title, shown, weighed))
    return hits


def _conditions(query: Query) -> tuple[str, Mapping[str, Any]]:
    given = {
        "role": ("m.role = :role", query.role),
        "into": ("c.id = :into", query.conversation_id),
        "since": ("m.created_at >= :since", query.since),
        "until": ("m.created_at < :until", query.until),
    }
    used = {name: pair for name, pair in given.items() if pair[1] is not None}
    said = [condition for condition, _ in used.values()]
    said += [] if query.conversation_id else ["NOT c.unlisted"]
    return (
        "".join(f" AND {condition}" for condition in said),
        {name: value for name, (_, value) in used.items()},
    )


def _match(
    text: str, vector: str, words: str, *, pieces: bool
) -> tuple[str, Mapping[str, str]] | None:
    """Return the condition that narrows most, and its values; None where nothing can be asked.

    Trigrams know terms of three characters and more. A shorter one is looked up as a word, or as
    the beginning of one; beside a longer one it is looked for in what that has found.
    """
    given = words.split()
    long = [term for term in given if len(term) >= 3] if pieces else []
    if not long:
        asked = terms.asked(given)
        return None if asked is None else (f"{vector} @@ :words::text::tsquery", {"words": asked})
    beside = [term for term in given if len(term) < 3 and any(c.isalnum() for c in term)]
    conditions = [f"{text} LIKE lower(:long{place})" for place in range(len(long))]
    conditions += [f"strpos({text}, lower(:short{place})) > 0" for place in range(len(beside))]
    values = {f"long{place}": f"%{_literal(term)}%" for place, term in enumerate(long)}
    values |= {f"short{place}": term for place, term in enumerate(beside)}
    return " AND ".join(conditions), values


def _literal(term: str) -> str:
    return term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

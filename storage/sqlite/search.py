"""Full-text search on SQLite's FTS5: any piece of a text, in any script, newest matches ranked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from storage import ranking, rows
from storage.model import Hit, Page, Query
from storage.unspaced import spaced


def index(connection: sqlite3.Connection, of: str, key: int, text: str) -> None:
    """Make a text findable; `of` is "message" or "title"."""
    connection.execute(f"INSERT INTO {of}_pieces (rowid, text) VALUES (?, ?)", (key, text))
    connection.execute(f"INSERT INTO {of}_words (rowid, text) VALUES (?, ?)", (key, spaced(text)))


def forget(connection: sqlite3.Connection, of: str, key: int, text: str) -> None:
    """Undo `index`; `text` is the text that was indexed."""
    for table, indexed in ((f"{of}_pieces", text), (f"{of}_words", spaced(text))):
        connection.execute(
            f"INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?, ?)", (key, indexed)
        )


def index_everything(connection: sqlite3.Connection) -> None:
    """Make what was kept before there was an index findable."""
    for key, is_parts, content in connection.execute("SELECT key, is_parts, content FROM messages"):
        index(connection, "message", key, _texts_of(content) if is_parts else content)
    for key, title in connection.execute("SELECT key, title FROM conversations"):
        index(connection, "title", key, title)


def index_calls(connection: sqlite3.Connection) -> None:
    """Make what calls and refusals say findable, which older releases did not."""
    keys = connection.execute("SELECT key FROM messages WHERE is_parts").fetchall()
    for (key,) in keys:
        one = connection.execute("SELECT content FROM messages WHERE key = ?", (key,))
        (content,) = one.fetchone()
        before, now = _texts_of(content), ranking.text_of(json.loads(content))
        if before != now:
            forget(connection, "message", key, before)
            index(connection, "message", key, now)


def _texts_of(content: str) -> str:
    """Return what was findable of parts before `index_calls`."""
    parts = json.loads(content)
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text")


def titled(
    connection: sqlite3.Connection, owner: str, words: str, limit: int, behind: int | None
) -> list[tuple[Any, ...]]:
    """Return conversations by title, those kept last first: the order in which the index walks."""
    match, terms = _match("title", words), words.split()
    if match is None:
        return []
    walk = connection.execute(
        f"""
        {rows.CONVERSATION_FROM} {match[0]} f CROSS JOIN conversations c ON c.key = f.rowid
        WHERE f.{match[0]} MATCH ? AND f.rowid < ? AND c.owner = ? AND c.unlisted IS NULL
        ORDER BY f.rowid DESC
        """,
        (match[1], 1 << 62 if behind is None else behind, owner),
    )
    with closing(walk):
        fit = (row for row in walk if not ranking.lacks(row[rows.TITLE], terms))
        return list(islice(fit, limit))


def find(
    connection: sqlite3.Connection, owner: str, query: Query, limit: int, after: str | None
) -> Page[Hit]:
    """Return a page of hits: window after window of the newest matches, the best of each first."""
    pager = ranking.Pager(limit, after)
    for window in _windows(connection, owner, query):
        if not pager.feed(window):
            break
    return pager.page()


def _windows(connection: sqlite3.Connection, owner: str, query: Query) -> Iterator[Sequence[Hit]]:
    below, first = 1 << 62, _found_titles(connection, owner, query)
    while True:
        hits, below, full = _found_messages(connection, owner, query, below)
        yield [*first, *hits]
        first = []
        if not full:
            return


def _found_messages(
    connection: sqlite3.Connection, owner: str, query: Query, below: int
) -> tuple[Sequence[Hit], int, bool]:
    """Return the hits among the newest matches below a key, the last key seen, if there is more."""
    match, terms = _match("message", query.words), query.words.split()
    if match is None:
        return [], below, False
    conditions, values = _conditions(query)
    found = connection.execute(
        f"""
        SELECT {rows.MESSAGE_COLUMNS}, c.title, m.key
        FROM {match[0]} f CROSS JOIN messages m ON m.key = f.rowid
        CROSS JOIN conversations c ON c.key = m.conversation
        LEFT JOIN messages p ON p.key = m.parent
        WHERE f.{match[0]} MATCH ? AND f.rowid < ? AND c.owner = ? {conditions}
        ORDER BY f.rowid DESC LIMIT {ranking.WINDOW}
        """,
        (match[1], below, owner, *values),
    ).fetchall()
    hits = []
    for row in found:
        message = rows.message(row)
        text = ranking.text_of(message.content)
        score = ranking.score(text, terms)
        if score is not None:
            shown = ranking.snippet(text, terms)
            hits.append(Hit(message, message.conversation_id, row[-2], shown, score))
    return hits, found[-1][-1] if found else below, len(found) == ranking.WINDOW


def _found_titles(connection: sqlite3.Connection, owner: str, query: Query) -> list[Hit]:
    match, terms = _match("title", query.words), query.words.split()
    if match is None or query.role is not None:
        return []
    conditions, values = _conditions(query)
    found = connection.execute(
        f"""
        SELECT {rows.MESSAGE_COLUMNS}, c.title, c.id
        FROM {match[0]} f CROSS JOIN conversations c ON c.key = f.rowid
        LEFT JOIN messages m ON m.key = (
            SELECT key FROM messages WHERE conversation = c.key AND parent IS NULL LIMIT 1
        )
        LEFT JOIN messages p ON p.key = m.parent
        WHERE f.{match[0]} MATCH ? AND c.owner = ? {conditions}
        ORDER BY f.rowid DESC LIMIT {ranking.WINDOW}
        """,
        (match[1], owner, *values),
    )
    hits = []
    for row in found:
        title, conversation_id = row[-2:]
        score = ranking.score(title, terms)
        if score is not None:
            message = None if row[0] is None else rows.message(row)
            shown = ranking.snippet(title, terms)
            hits.append(Hit(message, conversation_id, title, shown, ranking.TITLE_WEIGHT * score))
    return hits


def _conditions(query: Query) -> tuple[str, Sequence[Any]]:
    given = {
        "m.role = ?": query.role,
        "c.id = ?": query.conversation_id,
        "m.created_at >= ?": query.since,
        "m.created_at < ?": query.until,
    }
    used = {condition: value for condition, value in given.items() if value is not None}
    said = [*used, *(() if query.conversation_id else ("c.unlisted IS NULL",))]
    return "".join(f" AND {condition}" for condition in said), tuple(used.values())


def _match(of: str, words: str) -> tuple[str, str] | None:
    """Return the index that narrows most and what to ask it; None where nothing can be asked.

    Trigrams know terms of three characters and more. A shorter one is looked up as a word, or as
    the beginning of one; beside a longer one it is looked for in what that has found.
    """
    terms = words.split()
    long = [term for term in terms if len(term) >= 3]
    if long:
        return f"{of}_pieces", " AND ".join(_quoted(term) for term in long)
    short = [_quoted(spaced(term)) + "*" for term in terms if any(c.isalnum() for c in term)]
    return (f"{of}_words", " AND ".join(short)) if short else None


def _quoted(term: str) -> str:
    escaped = term.strip().replace('"', '""')
    return f'"{escaped}"'

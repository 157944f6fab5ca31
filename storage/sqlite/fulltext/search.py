"""Full-text search on SQLite's FTS5: any piece of a text, in any script, newest matches ranked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from storage import ranking, rows
from storage.model import Hit, Page, Query
from storage.sqlite.fulltext.index import newest_first, put, table, take_out
from storage.unspaced import spaced

#: Above every key.
_BEYOND = 1 << 62


def index_everything(connection: sqlite3.Connection) -> None:
    """Make what was kept before there was an index findable."""
    for key, is_parts, content in connection.execute("SELECT key, is_parts, content FROM messages"):
        put(connection, "message", 0, key, _texts_of(content) if is_parts else content)
    for key, title in connection.execute("SELECT key, title FROM conversations"):
        put(connection, "title", 0, key, title)


def index_calls(connection: sqlite3.Connection) -> None:
    """Make what calls and refusals say findable, which older releases did not."""
    keys = connection.execute("SELECT key FROM messages WHERE is_parts").fetchall()
    for (key,) in keys:
        one = connection.execute("SELECT content FROM messages WHERE key = ?", (key,))
        (content,) = one.fetchone()
        before, now = _texts_of(content), ranking.text_of(json.loads(content))
        if before != now:
            take_out(connection, "message", 0, key, before)
            put(connection, "message", 0, key, now)


def _texts_of(content: str) -> str:
    """Return what was findable of parts before `index_calls`."""
    parts = json.loads(content)
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text")


def titled(
    connection: sqlite3.Connection, owner: str, words: str, limit: int, behind: int | None
) -> list[tuple[Any, ...]]:
    """Return conversations by title, those kept last first: the order in which the index walks."""
    match, terms = _match(words), words.split()
    if match is None:
        return []
    below = _BEYOND if behind is None else behind
    with closing(_titled(connection, owner, match, below)) as walk:
        fit = (row for row in walk if not ranking.lacks(row[rows.TITLE], terms))
        return list(islice(fit, limit))


def _titled(
    connection: sqlite3.Connection, owner: str, match: _Match, below: int
) -> Generator[tuple[Any, ...], None, None]:
    for name in match.tables(connection, "title", below):
        walk = connection.execute(
            f"""
            {rows.CONVERSATION_FROM} {name} f CROSS JOIN conversations c ON c.key = f.rowid
            WHERE f.{name} MATCH ? AND f.rowid < ? AND c.owner = ? AND c.unlisted IS NULL
            ORDER BY f.rowid DESC
            """,
            (match.asked, below, owner),
        )
        with closing(walk):
            yield from walk


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
    below, first = _BEYOND, _found_titles(connection, owner, query)
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
    match, terms = _match(query.words), query.words.split()
    if match is None:
        return [], below, False
    conditions, values = _conditions(query)
    found = _window(
        connection,
        match,
        "message",
        below,
        f"""
        SELECT {rows.MESSAGE_COLUMNS}, c.title, m.key
        FROM {{table}} f CROSS JOIN messages m ON m.key = f.rowid
        CROSS JOIN conversations c ON c.key = m.conversation
        LEFT JOIN messages p ON p.key = m.parent
        WHERE f.{{table}} MATCH ? AND f.rowid < ? AND c.owner = ? {conditions}
        ORDER BY f.rowid DESC LIMIT ?
        """,
        (owner, *values),
    )
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
    match, terms = _match(query.words), query.words.split()
    if match is None or query.role is not None:
        return []
    conditions, values = _conditions(query)
    found = _window(
        connection,
        match,
        "title",
        _BEYOND,
        f"""
        SELECT {rows.MESSAGE_COLUMNS}, c.title, c.id
        FROM {{table}} f CROSS JOIN conversations c ON c.key = f.rowid
        LEFT JOIN messages m ON m.key = (
            SELECT key FROM messages WHERE conversation = c.key AND parent IS NULL LIMIT 1
        )
        LEFT JOIN messages p ON p.key = m.parent
        WHERE f.{{table}} MATCH ? AND f.rowid < ? AND c.owner = ? {conditions}
        ORDER BY f.rowid DESC LIMIT ?
        """,
        (owner, *values),
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


def _window(
    connection: sqlite3.Connection,
    match: _Match,
    of: str,
    below: int,
    sql: str,
    values: Sequence[Any],
) -> list[tuple[Any, ...]]:
    """Return what a query finds in the newest partitions, and no more than a window has.

    Its `{table}` is a partition's, and its values are what is asked, a key that is above all that
    is found, those given, and how many.
    """
    found: list[tuple[Any, ...]] = []
    for name in match.tables(connection, of, below):
        left = ranking.WINDOW - len(found)
        asked = sql.format(table=name)
        found += connection.execute(asked, (match.asked, below, *values, left))
        if len(found) == ranking.WINDOW:
            break
    return found


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


@dataclass(frozen=True, slots=True)
class _Match:
    """What is asked of an index, and of which kind of index."""

    kind: str
    asked: str

    def tables(self, connection: sqlite3.Connection, of: str, below: int) -> Iterator[str]:
        """Yield those that have keys below one, the newest first."""
        for since in newest_first(connection, of, below):
            yield table(of, self.kind, since)


def _match(words: str) -> _Match | None:
    """Return what narrows most; None where nothing can be asked.

    Trigrams know terms of three characters and more. A shorter one is looked up as a word, or as
    the beginning of one; beside a longer one it is looked for in what that has found.
    """
    terms = words.split()
    long = [term for term in terms if len(term) >= 3]
    if long:
        return _Match("pieces", " AND ".join(_quoted(term) for term in long))
    short = [_quoted(spaced(term)) + "*" for term in terms if any(c.isalnum() for c in term)]
    return _Match("words", " AND ".join(short)) if short else None


def _quoted(term: str) -> str:
    escaped = term.strip().replace('"', '""')
    return f'"{escaped}"'

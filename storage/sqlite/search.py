"""Full-text search on SQLite's FTS5: any piece of a text, in any script, newest matches ranked."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from storage.model import Content, Hit, Page, Query
from storage.port import NotFoundError
from storage.sqlite import rows

#: How many of the newest matches are ranked at a time. FTS5's own bm25() looks at every match
#: there is, so that its cost grows with the history; a walk from the newest one on does not.
WINDOW = 200
#: Characters shown before and after a match.
AROUND = 60
MARKS = ("«", "»")
_SATURATION, _LENGTH_WEIGHT, _USUAL_LENGTH = 1.2, 0.5, 400
_TITLE_WEIGHT = 2.0

#: Letters of scripts that are written without spaces; each is a word of its own in the index.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)


def text_of(content: Content) -> str:
    """Return what can be searched of a content."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")


def index(connection: sqlite3.Connection, of: str, key: int, text: str) -> None:
    """Make a text findable; `of` is "message" or "title"."""
    connection.execute(f"INSERT INTO {of}_pieces (rowid, text) VALUES (?, ?)", (key, text))
    connection.execute(f"INSERT INTO {of}_words (rowid, text) VALUES (?, ?)", (key, _spaced(text)))


def forget(connection: sqlite3.Connection, of: str, key: int, text: str) -> None:
    """Undo `index`; `text` is the text that was indexed."""
    for table, indexed in ((f"{of}_pieces", text), (f"{of}_words", _spaced(text))):
        connection.execute(
            f"INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?, ?)", (key, indexed)
        )


def index_everything(connection: sqlite3.Connection) -> None:
    """Make what was kept before there was an index findable."""
    for key, is_parts, content in connection.execute("SELECT key, is_parts, content FROM messages"):
        index(connection, "message", key, text_of(json.loads(content) if is_parts else content))
    for key, title in connection.execute("SELECT key, title FROM conversations"):
        index(connection, "title", key, title)


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
        WHERE f.{match[0]} MATCH ? AND f.rowid < ? AND c.owner = ? ORDER BY f.rowid DESC
        """,
        (match[1], 1 << 62 if behind is None else behind, owner),
    )
    with closing(walk):
        fit = (row for row in walk if not _lacks(row[rows.TITLE], terms))
        return list(islice(fit, limit))


def find(
    connection: sqlite3.Connection, owner: str, query: Query, limit: int, after: str | None
) -> Page[Hit]:
    """Return a page of hits: window after window of the newest matches, the best of each first."""
    found: list[Hit] = []
    seen: set[str] = set()
    passed = after is None
    for window in _windows(connection, owner, query):
        for hit in sorted(window, key=lambda hit: (-hit.score, _id(hit))):
            if _id(hit) in seen:
                continue
            seen.add(_id(hit))
            if passed:
                found.append(hit)
            passed = passed or _id(hit) == after
        if len(found) > limit:
            break
    if not passed:
        raise NotFoundError(f"There is no hit {after!r} in what is found.", "after")
    return Page(tuple(found[:limit]), len(found) > limit)


def _id(hit: Hit) -> str:
    return hit.message.id if hit.message else hit.conversation_id


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
        ORDER BY f.rowid DESC LIMIT {WINDOW}
        """,
        (match[1], below, owner, *values),
    ).fetchall()
    hits = []
    for row in found:
        message = rows.message(row)
        text = text_of(message.content)
        score = _score(text, terms)
        if score is not None:
            shown = snippet(text, terms)
            hits.append(Hit(message, message.conversation_id, row[-2], shown, score))
    return hits, found[-1][-1] if found else below, len(found) == WINDOW


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
        ORDER BY f.rowid DESC LIMIT {WINDOW}
        """,
        (match[1], owner, *values),
    )
    hits = []
    for row in found:
        title, conversation_id = row[-2:]
        score = _score(title, terms)
        if score is not None:
            message = None if row[0] is None else rows.message(row)
            shown = snippet(title, terms)
            hits.append(Hit(message, conversation_id, title, shown, _TITLE_WEIGHT * score))
    return hits


def _conditions(query: Query) -> tuple[str, Sequence[Any]]:
    given = {
        "m.role = ?": query.role,
        "c.id = ?": query.conversation_id,
        "m.created_at >= ?": query.since,
        "m.created_at < ?": query.until,
    }
    used = {condition: value for condition, value in given.items() if value is not None}
    return "".join(f" AND {condition}" for condition in used), tuple(used.values())


def _match(of: str, words: str) -> tuple[str, str] | None:
    """Return the index that narrows most and what to ask it; None where nothing can be asked.

    Trigrams know terms of three characters and more. A shorter one is looked up as a word, or as
    the beginning of one; beside a longer one it is looked for in what that has found.
    """
    terms = words.split()
    long = [term for term in terms if len(term) >= 3]
    if long:
        return f"{of}_pieces", " AND ".join(_quoted(term) for term in long)
    short = [_quoted(_spaced(term)) + "*" for term in terms if any(c.isalnum() for c in term)]
    return (f"{of}_words", " AND ".join(short)) if short else None


def _score(text: str, terms: Sequence[str]) -> float | None:
    """Return how well a text matches, as BM25 does within one query; None where it does not.

    Every hit has every term, so how rare a term is tells no hit from another.
    """
    if _lacks(text, terms):
        return None
    folded = text.lower()
    longer = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * len(text) / _USUAL_LENGTH
    score = 0.0
    for term in terms:
        times = folded.count(term.lower())
        if not times and len(term) < 3 and not any(c.isalnum() for c in term):
            continue
        times = times or 1  # found by other letters of the same kind: é for e
        score += times * (_SATURATION + 1) / (times + _SATURATION * longer)
    return round(score, 6)


def _lacks(text: str, terms: Sequence[str]) -> bool:
    """Say whether a short word is missing that the index was not asked for, beside longer ones."""
    if all(len(term) < 3 for term in terms):
        return False
    folded = text.lower()
    return any(
        term.lower() not in folded
        for term in terms
        if len(term) < 3 and any(c.isalnum() for c in term)
    )


def snippet(text: str, terms: Sequence[str]) -> str:
    """Return the text around the first match, the match between marks, on one line."""
    found = [m for term in terms if (m := re.search(re.escape(term), text, re.IGNORECASE))]
    if not found:
        return " ".join(text[: 2 * AROUND].split())
    first = min(found, key=re.Match.start)
    start, end = max(0, first.start() - AROUND), first.end() + AROUND
    shown = (
        ("…" if start else "")
        + text[start : first.start()]
        + first[0].join(MARKS)
        + text[first.end() : end]
        + ("…" if end < len(text) else "")
    )
    return " ".join(shown.split())


def _spaced(text: str) -> str:
    return _UNSPACED.sub(r" \1 ", text)


def _quoted(term: str) -> str:
    escaped = term.strip().replace('"', '""')
    return f'"{escaped}"'

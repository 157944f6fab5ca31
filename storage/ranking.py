"""How hits of a search are ranked, paged and shown, whatever found them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from storage.model import Content, Hit, Page
from storage.port import NotFoundError

#: How many of the newest matches are ranked at a time. FTS5's own bm25() and PostgreSQL's ts_rank()
#: look at every match there is, so that their cost grows with the history.
WINDOW = 200
#: Characters shown before and after a match.
AROUND = 60
MARKS = ("«", "»")
_SATURATION, _LENGTH_WEIGHT, _USUAL_LENGTH = 1.2, 0.5, 400
TITLE_WEIGHT = 2.0


def text_of(content: Content) -> str:
    """Return what can be searched of a content: its texts, refusals, and what calls say."""
    if isinstance(content, str):
        return content
    return "\n".join(said for part in content if (said := _said(part)))


def _said(part: Mapping[str, Any]) -> str:
    match part:
        case {"type": "text" | "tool_result", "text": str(text)}:
            return text
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "function", "function": {"name": str(name)} as called}:
            return f"{name} {called.get('arguments') or ''}"
        case {"type": "custom", "custom": {"name": str(name)} as called}:
            return f"{name} {called.get('input') or ''}"
    return ""


class Pager:
    """Makes a page of hits of windows of the newest matches, the best of each window first."""

    def __init__(self, limit: int, after: str | None) -> None:
        self._limit = limit
        self._after = after
        self._found: list[Hit] = []
        self._seen: set[str] = set()
        self._passed = after is None

    def feed(self, window: Sequence[Hit]) -> bool:
        """Take the next window; return whether a further one is wanted."""
        for hit in sorted(window, key=lambda hit: (-hit.score, _id(hit))):
            if _id(hit) in self._seen:
                continue
            self._seen.add(_id(hit))
            if self._passed:
                self._found.append(hit)
            self._passed = self._passed or _id(hit) == self._after
        return len(self._found) <= self._limit

    def page(self) -> Page[Hit]:
        """Return the page. Raises NotFoundError where `after` was not among what was found."""
        if not self._passed:
            raise NotFoundError(f"There is no hit {self._after!r} in what is found.", "after")
        return Page(tuple(self._found[: self._limit]), len(self._found) > self._limit)


def _id(hit: Hit) -> str:
    return hit.message.id if hit.message else hit.conversation_id


def score(text: str, terms: Sequence[str]) -> float | None:
    """Return how well a text matches, as BM25 does within one query; None where it does not.

    Every hit has every term, so how rare a term is tells no hit from another.
    """
    if lacks(text, terms):
        return None
    folded = text.lower()
    longer = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * len(text) / _USUAL_LENGTH
    total = 0.0
    for term in terms:
        times = folded.count(term.lower())
        if not times and len(term) < 3 and not any(c.isalnum() for c in term):
            continue
        times = times or 1  # found by other letters of the same kind: é for e
        total += times * (_SATURATION + 1) / (times + _SATURATION * longer)
    return round(total, 6)


def lacks(text: str, terms: Sequence[str]) -> bool:
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

"""The words of a text, as SQLite's unicode61 finds them, and what PostgreSQL is asked for them.

They are found here and not there: PostgreSQL's own parsers know neither Chinese nor, in a database
of ctype C, any letter but ASCII's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from storage.unspaced import spaced

#: A tsvector knows no later place than this, ...
_LAST_PLACE = 16_383
#: ...no more places of one word than this, ...
_MOST_PLACES = 255
#: ...and is itself no larger than 1 MB: what is behind so many characters is found by its pieces
#: alone, as are words of more letters than any language has.
_CHARACTERS = 100_000
_LONGEST = 200

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of a text in order: small letters and digits, without their accents."""
    found: list[str] = _WORD.findall(_folded(text))
    return found


def vector(text: str) -> str:
    """Return the words of a text and their places as a tsvector is written."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words(text[:_CHARACTERS]), start=1):
        if place > _LAST_PLACE:
            break
        there = places.setdefault(word[:_LONGEST], [])
        if len(there) < _MOST_PLACES:
            there.append(place)
    return " ".join(f"'{word}':{','.join(map(str, at))}" for word, at in places.items())


def asked(terms: Sequence[str]) -> str | None:
    """Return a tsquery for texts that have all terms, each as a phrase of which the last word may
    go on; None where no term has a word.
    """
    phrases = [found for term in terms if (found := words(term))]
    if not phrases:
        return None
    return " & ".join(
        "(" + " <-> ".join(f"'{word[:_LONGEST]}'" for word in phrase) + ":*)" for phrase in phrases
    )


def _folded(text: str) -> str:
    """Return what words are looked for in, letters that stand for themselves set apart."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFD", text.lower())
    bare = "".join(c for c in apart if not unicodedata.combining(c))
    # Korean letters were taken apart too.
    return spaced(unicodedata.normalize("NFC", bare))

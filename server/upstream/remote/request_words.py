"""What a request said to an upstream, to know its own words when the upstream repeats them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from urllib.parse import unquote_plus

from server.openai_protocol.surrogates import whole

#: so much is looked at of either end of a request's body
END_BYTES = 16 << 10
#: so many words of a key's shape are believed to be echoed, from either end: who says many guesses
_MOST_SHAPED = 8
_WORD = r"[^\s\"'`<>()\[\]{},;]"
_SHAPES = "|".join(
    (
        # keys by the names that providers give them, whole or masked
        r"(?<![A-Za-z0-9])(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|pplx)[-_][\w*.…\-]*[\w*…]",
        r"(?<![A-Za-z0-9])AIza[\w*\-]+",
        # whatever somebody masked
        rf"(?<![\w\-.])(?>[\w\-.]*)(?:\*{{3}}|•{{3}})(?:{_WORD}*[^\s\"'`<>()\[\]{{}},;.:!?])?",
        # what stands where a key is named
        rf"(?i:(?<=bearer ){_WORD}{{16,}})",
        rf"(?i:(?<=api key provided: ){_WORD}*[^\s\"'`<>()\[\]{{}},;.:!?])",
    )
)
#: what has the shape of a key, or of a masked one, whatever our key is
SHAPED = re.compile(_SHAPES)
_SHAPED_IN_ANY_CASE = re.compile(_SHAPES, re.IGNORECASE)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)")
_ESCAPED = dict.fromkeys("bfnrt", " ")


class Sent:
    """The words of one request; `words` gives them, and is asked only where it matters."""

    def __init__(self, words: Callable[[], Iterable[str | bytes]]) -> None:
        self._words = words

    def says(self, *words: str) -> bool:
        """Say whether the request holds one of these words, in any case or escape."""
        return any(word.casefold() in view for view in self._views for word in words)

    def shows(self, word: str) -> bool:
        """Say whether the request shows a word that has a key's shape, or a longer one it begins.

        Of many such words only the first and the last few count.
        """
        begins = word.removesuffix("…").casefold()
        return any(shown.startswith(begins) for shown in self._shaped)

    @cached_property
    def _views(self) -> tuple[str, ...]:
        return tuple(view.casefold() for view in self._plain)

    @cached_property
    def _plain(self) -> tuple[str, ...]:
        text = "\n".join(map(_text, self._words()))
        views = {text, whole(_ESCAPE.sub(_unescaped, text)), unquote_plus(text)}
        return tuple(map(plain, views))

    @cached_property
    def _shaped(self) -> frozenset[str]:
        # As an answer's are found, and in any case, which may end them elsewhere.
        found = [SHAPED.finditer(view) for view in self._plain]
        found += [_SHAPED_IN_ANY_CASE.finditer(view) for view in self._views]
        return frozenset(word for words in found for word in _ends(words))


def plain(text: str) -> str:
    """Return a text's words with single spaces between, control characters and halves gone."""
    return " ".join(
        word if word.isprintable() else "".join(filter(str.isprintable, word))
        for word in whole(text).split()
    )


def _text(words: str | bytes) -> str:
    if isinstance(words, str):
        return words
    if len(words) > 2 * END_BYTES:
        words = words[:END_BYTES] + b"\n" + words[-END_BYTES:]
    return words.decode("utf-8", "replace")


def _unescaped(found: re.Match[str]) -> str:
    code, letter = found.groups()
    return chr(int(code, 16)) if code else _ESCAPED.get(letter, letter)


def _ends(words: Iterator[re.Match[str]]) -> list[str]:
    found = list(dict.fromkeys(word[0].casefold() for word in words))
    return [*found[:_MOST_SHAPED], *found[-_MOST_SHAPED:]]


NOTHING = Sent(tuple)

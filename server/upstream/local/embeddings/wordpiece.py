"""Text to the word pieces that BERT's uncased models read, without their special tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

#: Words of more characters are unknown, as in the original.
LONGEST_WORD = 100

_UNKNOWN = "[UNK]"
_IDEOGRAPH = re.compile(
    "([\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f])"
)
_ASCII_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
#: Categories of characters that are left out, white space apart.
_SILENT = frozenset(("Cc", "Cf", "Co", "Cs"))
_SPACES = frozenset("\t\n\r")


class WordPieces:
    """A vocabulary, and the rule that the longest piece wins (Schuster and Nakajima, 2012)."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Take the pieces in the order of their numbers; `##` begins one that continues a word."""
        self._number = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown = self._number[_UNKNOWN]
        self.begin = self._number["[CLS]"]
        self.end = self._number["[SEP]"]

    def pieces(self, text: str) -> list[int]:
        """Return the numbers of a text's pieces."""
        known: dict[str, list[int]] = {}
        numbers: list[int] = []
        for word in _words(text):
            if word not in known:
                known[word] = self._split(word)
            numbers += known[word]
        return numbers

    def _split(self, word: str) -> list[int]:
        numbers: list[int] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self._number.get(prefix + word[start:end])
                if number is not None:
                    numbers.append(number)
                    start = end
                    break
            else:
                return [self._unknown]
        return numbers or [self._unknown]


def _words(text: str) -> Iterator[str]:
    for word in _plain(text).split():
        start = 0
        for at, letter in enumerate(word):
            if _is_mark(letter):
                if start < at:
                    yield word[start:at]
                yield letter
                start = at + 1
        if start < len(word):
            yield word[start:]


def _plain(text: str) -> str:
    """Return a text in lower case, without accents and silent characters, ideographs apart."""
    if text.isascii() and text.isprintable():
        return text.lower()
    kept = "".join(filter(_sounds, text))
    apart = unicodedata.normalize("NFD", _IDEOGRAPH.sub(r" \1 ", kept))
    # Letter by letter: the whole text's `lower` would know of the sigma that ends a word.
    return "".join(letter.lower() for letter in apart if unicodedata.category(letter) != "Mn")


def _sounds(letter: str) -> bool:
    if letter in _SPACES:
        return True
    return letter != "\ufffd" and unicodedata.category(letter) not in _SILENT


def _is_mark(letter: str) -> bool:
    return letter in _ASCII_MARKS or (
        not letter.isascii() and unicodedata.category(letter).startswith("P")
    )

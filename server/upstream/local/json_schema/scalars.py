"""Numbers and strings that fit a schema, in the words of a conversation, each used once first."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, islice, product
from typing import Any

from server.upstream.local.json_schema.document import Schemas, UnfitError
from server.upstream.local.json_schema.formats import sample
from server.upstream.local.json_schema.patterns import PatternError
from server.upstream.local.json_schema.validate import bounds, is_multiple
from server.upstream.local.json_schema.vocabulary import Words

MOST_LETTERS = 20_000

_MOST_NUMBERS = 4_000
#: Texts of fewer letters than this are no words.
_SHORTEST_WORD = 4
#: Passwords and the like, for patterns that look ahead.
_MIXED = ("Eliza-1966", "Eliza1966!", "eliza", "ELIZA", "1966")
_SIGNS = string.ascii_lowercase + string.digits + string.ascii_uppercase
_LONGEST_INTEGER = 2.0**63


class Scalars:
    """The words and numbers of a conversation, and which of them were used."""

    def __init__(self, schemas: Schemas, words: Words, turn: int) -> None:
        self._schemas = schemas
        self._words = words
        self._turn = turn
        self._spoken: set[str] = set()
        self._counted: set[float] = set()

    def numbers(self, plain: Mapping[str, Any], whole: bool) -> Iterator[float]:
        """Yield numbers that are likely to fit."""
        step = plain.get("multipleOf", 1 if whole else None)
        again: list[float] = []
        for number in chain(self._words.numbers[:5], self._counting(plain, step)):
            exact = abs(number) < _LONGEST_INTEGER and number == int(number)
            tidy = int(number) if exact else number
            if not _is_within(tidy, plain) or (step is not None and not is_multiple(tidy, step)):
                continue
            again.append(tidy)
            if tidy not in self._counted:
                self._counted.add(tidy)
                yield tidy
        yield from again

    def _counting(self, plain: Mapping[str, Any], step: float | None) -> Iterator[float]:
        """Yield numbers upwards from the lower limit, or downwards from the upper."""
        low, high, *_ = bounds(plain)
        stride = step or 1
        if low is not None and low < -_MOST_NUMBERS:  # the limits of a type, not of what is asked
            yield from (_product(number, stride) for number in range(1, _MOST_NUMBERS))
        down = low is None and high is not None and high < 1
        start = high if down else low if low is not None else 1
        assert start is not None  # noqa: S101 - told to the type checker
        if step is None:
            yield from _between(low, high)
            yield from (start, start + (-0.5 if down else 0.5))
        first = (math.floor if down else math.ceil)(_quotient(start, stride))
        for number in range(_MOST_NUMBERS):
            yield _product(first + (-number if down else number), stride)

    def texts(self, plain: Mapping[str, Any], name: str) -> Iterator[str]:
        """Yield strings that are likely to fit, without end."""
        least, most = int(plain.get("minLength", 0)), int(plain.get("maxLength", MOST_LETTERS))
        if least > MOST_LETTERS:
            raise UnfitError("it asks for a text that is too long")
        again: dict[str, None] = {}
        for text in self._candidates(plain, name, most):
            fit = text if {"pattern", "format"} & plain.keys() else _sized(text, least, most)
            again[fit] = None
            if fit not in self._spoken:
                self._spoken.add(fit)
                yield fit
        yield from again

    def _candidates(self, plain: Mapping[str, Any], name: str, most: int) -> Iterator[str]:
        words = self._words.for_property(name, self._turn)
        if "format" in plain:
            yield from _samples(plain["format"], self._turn)
        if "pattern" in plain:
            known = [word for word in words[:20] if word.isascii()]
            yield from (w for w in (*known, *_MIXED) if self._schemas.matches(plain["pattern"], w))
            yield from self._patterned(plain["pattern"], int(plain.get("minLength", 0)), words)
        yield from words
        if most < _SHORTEST_WORD:
            yield from map("".join, product(_SIGNS, repeat=most))
        yield from (f"{words[0]} {number}" for number in islice(count(2), _MOST_NUMBERS))

    def _patterned(self, source: str, least: int, words: Sequence[str]) -> Iterator[str]:
        """Yield texts made from a pattern, then such with words before or behind."""
        pattern = self._schemas.pattern(source)
        try:
            for turn in range(self._turn, self._turn + 8):
                yield from islice(pattern.samples(turn), 40)
            core = next(pattern.samples(self._turn))
            for word in (_sized(word, least, MOST_LETTERS) for word in words[:20]):
                yield from filter(pattern.matches, (core + word, word + core))
        except PatternError as error:
            raise UnfitError(str(error)) from error


def _samples(name: str, turn: int) -> Iterator[str]:
    for number in range(turn, turn + _MOST_NUMBERS):
        text = sample(name, number)
        if text is None:
            return
        yield text


def _between(low: float | None, high: float | None) -> Iterator[float]:
    """Yield numbers between two limits that leave little room for whole ones."""
    if low is not None and high is not None and high - low < _MOST_NUMBERS:
        yield from (low + (high - low) * part / 8 for part in (4, 2, 6, 1, 3, 5, 7))


def _is_within(number: float, plain: Mapping[str, Any]) -> bool:
    low, high, over, under = bounds(plain)
    return (low is None or number > low or (number == low and not over)) and (
        high is None or number < high or (number == high and not under)
    )


def _quotient(number: float, stride: float) -> float:
    """Divide, where the result is a number that can still be counted from; else begin at 0."""
    result = number / stride if abs(number) < 1e300 * min(stride, 1) else 0.0
    return result if math.isfinite(result) else 0.0


def _product(number: int, stride: float) -> float:
    return number * stride if abs(number) < 2**1_000 else 0.0


def _sized(text: str, least: int, most: int) -> str:
    """Repeat a text until it is long enough, and cut it where it is too long."""
    while len(text) < least:
        text = f"{text} {text}" if text else "Eliza"
    return text[:most].strip().ljust(least, ".") if len(text) > most else text

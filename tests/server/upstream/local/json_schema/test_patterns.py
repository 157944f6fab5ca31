"""Texts made from regular expressions, and the matcher that cannot be made to run for ever."""

from __future__ import annotations

import re
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.upstream.local.json_schema.patterns import LONGEST_TEXT, Pattern, PatternError

SIMPLE = [
    r"^[a-z]+$",
    r"^\d{3}-\d{4}$",
    r"a|bc|[d-f]{2}",
    r"\bword\b",
    r"^[A-Z]{2}\d{2}(?: ?\d{4}){3}$",
    r"^(?!foo)\w+$",
    r"^[^\W\d_]+$",
    r"^\S+\s\S+?$",
    r"^[à-ü]+$",
    "",
]


@pytest.mark.parametrize("source", SIMPLE)
@pytest.mark.parametrize("turn", range(3))
def test_samples_match(source: str, turn: int) -> None:
    pattern = Pattern(source)
    samples = list(islice(pattern.samples(turn), 5))
    assert samples
    for sample in samples:
        assert pattern.matches(sample)
        assert re.search(source, sample)


def test_samples_grow_and_turn() -> None:
    pattern = Pattern("^[a-z]+$")
    lengths = [len(sample) for sample in pattern.samples()]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 60
    assert len({next(pattern.samples(turn)) for turn in range(5)}) == 5
    assert {next(Pattern("yes|no").samples(turn)) for turn in range(2)} == {"yes", "no"}


def test_a_group_named_as_in_javascript() -> None:
    assert Pattern(r"^(?<year>\d{4})$").matches("1966")


@settings(deadline=None)
@given(st.sampled_from(SIMPLE), st.text("abcdefWORD wo12-é _", max_size=12))
def test_it_reads_as_pythons_own_does(source: str, text: str) -> None:
    assert Pattern(source).matches(text) is bool(re.search(source, text, re.ASCII))


@pytest.mark.parametrize("source", [r"(a*)*b", r"(x+x+)+y", r"^(a|aa)+$", r"^((a?){30}){30}$"])
def test_what_takes_others_for_ever_is_answered_here(source: str) -> None:
    assert not Pattern(source).matches("a" * 40 + "x" * 40 + "c")


def test_what_is_too_much_work_is_refused() -> None:
    with pytest.raises(PatternError, match="too much work"):
        Pattern("(a{500}){3}").matches("a" * 2_000)


@pytest.mark.parametrize(
    "source", ["(" * 400, "(a", r"\p{L}", r"(a)\1", r"(?<=a)b", "(?i)a", "a" * 1_001, r"[^\s\S]"]
)
def test_what_is_not_understood_is_refused(source: str) -> None:
    with pytest.raises(PatternError):
        _tried(source)


def _tried(source: str) -> None:
    pattern = Pattern(source)
    for sample in pattern.samples():
        assert pattern.matches(sample)


@pytest.mark.parametrize("source", ["(((a{50}){50}){50}){50}", "(){4000000}", "a{99999}"])
def test_what_is_too_long_is_refused(source: str) -> None:
    with pytest.raises(PatternError):
        next(Pattern(source).samples())
    assert LONGEST_TEXT < 99_999

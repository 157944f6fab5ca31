"""Tests of ids: made in order, never twice, and refused where a caller chose a bad one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.errors import InvalidRequestError
from server.core.ids import Ids, check_id


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=50))
def test_ids_sort_as_they_were_made_whatever_the_clock_does(clock: list[int]) -> None:
    times = iter(clock)
    ids = Ids(lambda: next(times))
    made = [ids.new("turn") for _ in clock]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_many_in_one_millisecond_are_different_and_in_order() -> None:
    ids = Ids(lambda: 1_700_000_000_000_000)
    made = [ids.new("msg") for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_of_two_servers_are_different() -> None:
    one, other = (Ids(lambda: 1_700_000_000_000_000) for _ in range(2))
    assert not {one.new("msg") for _ in range(1000)} & {other.new("msg") for _ in range(1000)}


def test_an_id_is_its_prefix_and_26_digits_that_a_caller_could_choose() -> None:
    made = Ids(lambda: 1_700_000_000_000_000).new("conv")
    assert len(made) == len("conv_") + 26
    assert check_id(made, "id") == made


@pytest.mark.parametrize("good", ["a", "0", "A.b_c:d~e-f", "new1", "x" * 128])
def test_good_ids_are_taken(good: str) -> None:
    assert check_id(good, "id") == good


@pytest.mark.parametrize(
    "bad",
    ["", " ", "x" * 129, "-a", ".", "..", "a/b", "a b", "a\n", "é", "٣", "a$b", "a\x00", "\ud800"],
)
def test_bad_ids_are_refused(bad: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_id(bad, "conversation_id")
    assert refused.value.param == "conversation_id"

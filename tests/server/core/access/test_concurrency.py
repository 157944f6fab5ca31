"""Tests of the places that owners share: nobody takes more than are left, nobody is locked out."""

from __future__ import annotations

from collections import Counter

import pytest

from server.core.access.concurrency import ConcurrencyLimit, Room
from server.core.errors import CrowdedError, RateLimitedError


def room(most: int, *, shared: bool = True) -> Room:
    return Room(most, "turns", lambda: shared)


def fill(places: Room, name: str) -> int:
    """Take places until one is refused, and return how many were to be had."""
    taken = 0
    while True:
        try:
            places.enter(name)
        except CrowdedError:
            return taken
        taken += 1


def test_those_at_other_servers_count_too() -> None:
    limit = ConcurrencyLimit(3, "key")
    limit.elsewhere = Counter({"ada": 2}).__getitem__
    with limit.within("ada"), limit.within("bob"), limit.within("bob"):
        with pytest.raises(RateLimitedError), limit.within("ada"):
            pass
        with limit.within("bob"):
            pass


@pytest.mark.parametrize(("most", "half"), [(1, 1), (2, 1), (3, 2), (10, 5), (180, 90)])
def test_one_has_half_at_most(most: int, half: int) -> None:
    assert fill(room(most), "ada") == half


def test_whoever_comes_next_finds_a_place() -> None:
    places = room(100)
    assert [fill(places, name) for name in ("ada", "bob", "cyd", "dan")] == [50, 25, 13, 6]
    places.enter("eve")


def test_several_who_come_and_go_end_with_the_same_share() -> None:
    places = room(120)
    held = {name: fill(places, name) for name in ("ada", "bob", "cyd")}
    for _ in range(200):
        for name in held:
            places.leave(name)
            held[name] += fill(places, name) - 1
    assert set(held.values()) == {30}


def test_what_is_not_shared_one_may_take_whole() -> None:
    places = room(10, shared=False)
    assert fill(places, "ada") == 10
    with pytest.raises(CrowdedError, match="All places for turns are taken"):
        places.enter("bob")


def test_a_place_in_a_context_is_given_back_and_a_refusal_takes_none() -> None:
    places = room(2)
    for _ in range(3):
        with places.within("ada"):
            with pytest.raises(CrowdedError, match="1 of 2 places"), places.within("ada"):
                raise AssertionError
            with places.within("bob"):
                assert fill(places, "cyd") == 0

"""Tests of trimming: whole newest turns, as many as fit, and never one token more."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.prompt.window import Weighed, trim
from storage.model import Message, Role

ROLES = (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.TOOL)


def line(sizes: list[tuple[Role, int]]) -> list[Weighed]:
    """Return a branch from the root, newest first, as `trim` takes it."""
    branch = []
    for number, (role, cost) in enumerate(sizes):
        parent = str(number - 1) if number else None
        message = Message(str(number), "c", parent, role, "", cost, "o200k_base", None, None, 1)
        branch.append(Weighed(message, cost, cost))
    return branch[::-1]


def turns_of(branch: list[Weighed]) -> list[list[Weighed]]:
    """Split a branch into whole turns, newest first; what no user began goes with the root's."""
    turns: list[list[Weighed]] = [[]]
    for weighed in reversed(branch):
        if weighed.message.role is Role.USER and turns[0]:
            turns.insert(0, [])
        turns[0].insert(0, weighed)
    return [turn for turn in turns if turn]


branches = st.lists(st.tuples(st.sampled_from(ROLES), st.integers(0, 9)), max_size=25).map(line)


@settings(deadline=None, max_examples=150)
@given(branches, st.integers(0, 60))
def test_what_is_kept_is_the_newest_whole_turns_that_fit(branch: list[Weighed], room: int) -> None:
    expected: list[Weighed] = []
    for turn in turns_of(branch):
        if sum(w.cost for w in [*expected, *turn]) > room:
            break
        expected += turn
    assert trim(branch, room) == expected


@settings(deadline=None, max_examples=80)
@given(branches, st.integers(0, 60))
def test_never_over_the_room_and_nothing_left_out_in_between(
    branch: list[Weighed], room: int
) -> None:
    kept = trim(branch, room)
    assert sum(w.cost for w in kept) <= room
    assert kept == branch[: len(kept)]


@settings(deadline=None, max_examples=80)
@given(branches, st.integers(0, 60))
def test_one_turn_more_would_not_fit(branch: list[Weighed], room: int) -> None:
    kept = trim(branch, room)
    left = turns_of(branch[len(kept) :])
    assert not left or sum(w.cost for w in [*kept, *left[0]]) > room


@settings(deadline=None, max_examples=80)
@given(branches, st.integers(0, 30), st.integers(0, 30))
def test_more_room_never_keeps_less(branch: list[Weighed], room: int, more: int) -> None:
    assert len(trim(branch, room + more)) >= len(trim(branch, room))


@settings(deadline=None, max_examples=80)
@given(branches, st.integers(0, 60))
def test_no_more_is_read_than_is_needed(branch: list[Weighed], room: int) -> None:
    read: list[Weighed] = []

    def history() -> Iterator[Weighed]:
        for weighed in branch:
            read.append(weighed)
            yield weighed

    trim(history(), room)
    spent = [sum(w.cost for w in branch[:count]) for count in range(len(branch) + 1)]
    assert all(cost <= room for cost in spent[: len(read)])


def test_everything_is_kept_where_there_is_room() -> None:
    branch = line([(Role.USER, 3), (Role.ASSISTANT, 4), (Role.USER, 5)])
    assert trim(branch, 12) == branch
    assert trim(branch, 11) == branch[:1]
    assert trim(branch, 4) == []


def test_a_piece_without_its_root_is_kept_whole_or_not() -> None:
    """What stands behind a summary begins with no root: its first answer has its question there."""
    branch = line([(Role.USER, 1), (Role.ASSISTANT, 2), (Role.USER, 3), (Role.ASSISTANT, 4)])
    behind = branch[:3]
    assert trim(behind, 9, whole=True) == behind
    assert trim(behind, 8, whole=True) == behind[:2]
    assert trim(behind, 9) == behind[:2]

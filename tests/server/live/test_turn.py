"""Tests of a live turn: whoever follows it, from wherever and however fast, reads the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from server.live.turn import (
    LARGEST,
    Delta,
    Ended,
    LiveTurn,
    Started,
    TurnEvent,
    replay,
    started,
)
from server.upstream.port import Finish
from storage.model import Status, Turn, Usage
from storage.parts import MARK, Kind, Part, content_of, row_of
from storage.port import Piece
from tests.server.core.following import check_shape, gathered, text_of
from tests.storage.nouns import ADA, turn

pieces_of_text = st.lists(st.text(min_size=1, max_size=9), max_size=12)
heads = st.builds(Part, st.sampled_from((Kind.TEXT, Kind.REASONING, Kind.REFUSAL))) | st.builds(
    Part, st.just(Kind.TOOL_CALL), st.just("call"), st.just("look")
)
#: Pieces of an answer of parts, some of them empty.
pieces_of_parts = st.lists(st.text(min_size=1, max_size=5) | heads, max_size=12)


def ended(live: LiveTurn, status: Status = Status.COMPLETED) -> Turn:
    done = replace(live.turn, status=status, answer_id="a", ended_at=9)
    return done.saying(live.content())


def say(live: LiveTurn, piece: str | Part) -> None:
    if isinstance(piece, Part):
        live.begin(piece)
    else:
        live.append(piece)


def live_turn(*pieces: str | Part) -> LiveTurn:
    live = LiveTurn(ADA, turn("1"))
    for piece in pieces:
        say(live, piece)
    return live


def heard(events: list[TurnEvent], after: int) -> list[tuple[int, Part | None, int, str]]:
    """Return each position that was told behind `after`: what it is of, and what stands there."""
    told: list[tuple[int, Part | None, int, str]] = []
    position = after
    for event in events:
        if isinstance(event, Delta):
            said = event.text or event.delta
            said = MARK * (event.cursor - position - len(said)) + said
            told += [(position + n, event.part, event.index, c) for n, c in enumerate(said)]
            position = event.cursor
    return told


@settings(deadline=None, max_examples=200)
@given(pieces_of_parts, st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 12))
async def test_every_follower_hears_the_same_parts(
    pieces: list[str | Part], cursors: list[int], early: int
) -> None:
    live = live_turn(*pieces[:early])
    tasks = [asyncio.create_task(gathered(live.follow(after))) for after in cursors]
    await asyncio.sleep(0)
    for number, piece in enumerate(pieces[early:]):
        say(live, piece)
        if number % 2:
            await asyncio.sleep(0)
    live.end(ended(live))
    whole = heard(await gathered(replay(live.turn)), 0)
    assert "".join(one[-1] for one in whole) == live.row() == row_of(live.turn.content)[0]
    assert "".join(c for _, part, _, c in whole if c != MARK and _is_text(part)) == (
        live.turn.answer.replace(MARK, "")
    )
    for after, task in zip(cursors, tasks, strict=True):
        for events in (await task, await gathered(replay(live.turn, after))):
            check_shape(events, after)
            assert heard(events, after) == whole[after:]
            assert isinstance(events[-1], Ended)
            assert events[-1].cursor == len(live.row())


def _is_text(part: Part | None) -> bool:
    return part is None or part.kind is Kind.TEXT


@settings(deadline=None, max_examples=50)
@given(pieces_of_parts, st.integers(1, 12))
async def test_what_is_checkpointed_is_the_row(pieces: list[str | Part], every: int) -> None:
    live = live_turn()
    kept: list[Piece] = []
    for number, piece in enumerate(pieces):
        say(live, piece)
        if number % every == 0 and (unkept := live.unkept()) is not None:
            kept.append(unkept)
            live.kept(unkept)
    if (unkept := live.unkept()) is not None:
        kept.append(unkept)
    row = "".join(piece.text for piece in kept)
    marks = [mark for piece in kept for mark in piece.marks]
    assert content_of(row, marks) == live.content()


async def test_parts_are_counted_and_named_in_every_delta() -> None:
    look = Part(Kind.TOOL_CALL, "c", "look")
    live = live_turn(Part(Kind.REASONING), "Hm", Part(Kind.TEXT), "So", look, "{}")
    told = [(d.cursor, d.index, d.part, d.text, d.delta) for d in deltas(live)]
    assert told == [
        (3, 0, Part(Kind.REASONING), "", "Hm"),
        (6, 1, Part(Kind.TEXT), "So", ""),
        (9, 2, look, "", "{}"),
    ]
    live = live_turn("So", look)
    assert [(d.index, d.part) for d in deltas(live)] == [(0, None), (1, look)]


def deltas(live: LiveTurn) -> list[Delta]:
    told, cursor = [], 0
    while cursor < live.length:
        told.append(live.delta(cursor))
        cursor = told[-1].cursor
    return told


@settings(deadline=None, max_examples=50)
@given(pieces_of_text, st.integers(0, 40))
async def test_the_answer_so_far_is_read_from_any_cursor(pieces: list[str], after: int) -> None:
    live = live_turn(*pieces)
    assert live.row(after) == "".join(pieces)[after:]
    assert live.length == len("".join(pieces))


async def test_no_delta_is_larger_than_may_be_held_for_one_who_reads_nothing() -> None:
    live = live_turn("x", "é" * LARGEST, *"yz" * LARGEST, "end")
    live.end(ended(live))
    for events in (live.follow(1), live.follow(1), replay(live.turn, 1)):
        deltas = [event for event in await gathered(events) if isinstance(event, Delta)]
        assert [len(delta.text) for delta in deltas] == [LARGEST] * 3 + [3]
        assert "".join(delta.text for delta in deltas) == live.row(1)


@settings(deadline=None, max_examples=50)
@given(pieces_of_text, st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 12))
async def test_every_follower_reads_the_same_text(
    pieces: list[str], cursors: list[int], early: int
) -> None:
    live = live_turn(*pieces[:early])
    tasks = [asyncio.create_task(gathered(live.follow(after))) for after in cursors]
    await asyncio.sleep(0)
    for number, piece in enumerate(pieces[early:]):
        live.append(piece)
        if number % 2:
            await asyncio.sleep(0)
    live.end(ended(live))

    answer = "".join(pieces)
    for after, task in zip(cursors, tasks, strict=True):
        events = await task
        check_shape(events, after)
        assert text_of(events) == answer[after:]
        assert isinstance(events[-1], Ended)
        assert events[-1].cursor == len(answer)


@settings(deadline=None, max_examples=50)
@given(pieces_of_text, st.integers(0, 40))
async def test_a_replay_is_what_a_live_follower_read(pieces: list[str], after: int) -> None:
    live = live_turn(*pieces)
    live.end(ended(live))
    events, replayed = (
        await gathered(live.follow(after)),
        await gathered(replay(live.turn, after)),
    )
    check_shape(replayed, after)
    assert replayed == events


async def test_a_slow_follower_reads_fewer_and_larger_deltas() -> None:
    live = live_turn()
    slow = live.follow()
    assert isinstance(await anext(slow), Started)
    live.append("a")
    first = await anext(slow)
    for number in range(1000):
        live.append(f"{number} 🙂 ")
    live.end(ended(live))
    rest = await gathered(slow)
    assert len(rest) == 2
    assert text_of([first, *rest]) == live.row()


async def test_followers_who_keep_up_share_one_event() -> None:
    live = live_turn()
    followers = [live.follow() for _ in range(3)]
    for follower in followers:
        await anext(follower)
    for piece in ("Hel", "lo"):
        live.append(piece)
        seen = [await anext(follower) for follower in followers]
        assert seen[0] is seen[1] is seen[2]
        assert text_of(seen[:1]) == piece
    for follower in followers:
        await follower.aclose()


async def test_one_who_leaves_disturbs_nobody() -> None:
    live = live_turn()
    leaving = asyncio.create_task(gathered(live.follow()))
    staying = asyncio.create_task(gathered(live.follow()))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    live.append("Hello")
    live.end(ended(live))
    assert text_of(await staying) == "Hello"


async def test_a_started_event_tells_nothing_of_the_end() -> None:
    live = live_turn("Hello")
    live.end(replace(ended(live), usage=Usage(1, 2), finish_reason="stop"))
    (first, *_) = await gathered(live.follow())
    assert isinstance(first, Started)
    assert first.turn == started(live.turn) == turn("1")


async def test_a_snapshot_is_the_turn_with_its_answer_so_far() -> None:
    live = live_turn("Hel", "lo")
    assert live.snapshot() == replace(turn("1"), answer="Hello")
    live.end(ended(live))
    assert live.snapshot() == live.turn == await live.ended()


async def test_a_checkpoint_takes_what_no_checkpoint_has() -> None:
    live = live_turn()
    assert live.unkept() is None
    live.append("Hel")
    first = live.unkept()
    assert first is not None
    live.append("lo")
    live.kept(first)
    second = live.unkept()
    assert second is not None
    assert [(p.position, p.text, p.owner, p.turn_id) for p in (first, second)] == [
        (0, "Hel", ADA, "turn_1"),
        (3, "lo", ADA, "turn_1"),
    ]
    live.kept(second)
    assert live.unkept() is None
    live.append("!")
    live.end(ended(live))
    assert live.unkept() is None


class Reading:
    """What an upstream's reader does, and whether it began."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def read(self) -> Finish:
        self.began.set()
        await asyncio.Event().wait()
        return Finish()


async def test_stopping_cancels_the_reading_alone() -> None:
    live, reading = live_turn(), Reading()
    reader = live.read(reading.read())
    await reading.began.wait()
    live.stop(Status.CANCELLED)
    live.stop(Status.INTERRUPTED)
    await asyncio.wait([reader])
    assert reader.cancelled()
    assert live.stopped_as is Status.CANCELLED


async def test_one_that_is_stopped_before_it_began_reads_nothing() -> None:
    live, reading = live_turn(), Reading()
    live.stop(Status.CANCELLED)
    reader = live.read(reading.read())
    await asyncio.wait([reader])
    assert reader.cancelled()
    assert not reading.began.is_set()


async def test_whoever_waits_for_the_end_hears_it() -> None:
    live = live_turn()
    waiting = [asyncio.create_task(live.ended()) for _ in range(3)]
    await asyncio.sleep(0)
    live.append("Hello")
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    live.end(ended(live, Status.CANCELLED))
    assert {(await task).status for task in waiting} == {Status.CANCELLED}

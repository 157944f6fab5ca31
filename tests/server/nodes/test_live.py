"""What one node hears of the others, and what it tells of its own while it may."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from server.live.turn import Delta, Ended, LiveTurn, Started
from storage.model import Status
from storage.parts import Kind, Mark, Part
from storage.port import Piece
from tests.storage.nouns import ADA, BOB, HERE, turn
from tests.support.fake_nodes import node_of


async def test_a_turn_is_stopped_that_another_node_was_asked_to_cancel() -> None:
    node = node_of(1)
    live, other = node.admit(ADA, turn("1", "c")), node.admit(ADA, turn("2", "d"))
    node.hear_others(["stop", BOB, "turn_1"])
    assert [one.stopped_as for one in (live, other)] == [None, None]
    node.hear_others(["stop", ADA, "turn_1"])
    assert [one.stopped_as for one in (live, other)] == [Status.CANCELLED, None]


async def test_who_listens_here_hears_what_begins_elsewhere() -> None:
    node = node_of(1)
    heard, other = node.listen(HERE), node.listen((ADA, "d"))
    node.hear_others(["place", ADA, "c"])
    assert (heard.done(), other.done()) == (True, False)


async def test_keys_are_read_when_one_was_made_or_revoked() -> None:
    node, read = node_of(1), asyncio.Event()
    node.keys_changed = read.set
    node.hear_others(["key"])
    assert not read.is_set()
    node.hear_others(["keys"])
    assert read.is_set()


async def test_words_of_a_later_release_are_passed_over() -> None:
    node = node_of(1)
    for told in ([], ["new"], ["new", 1], ["new", ADA, "c"], ["new", ADA, "c", "d"]):
        node.hear_others(told)


async def test_what_is_new_is_told_while_it_may_be_and_an_end_always() -> None:
    held = False
    live = LiveTurn(ADA, turn("1"), lambda: held)
    live.append("Kept. ")
    live.kept(Piece(ADA, "turn_1", 0, "Kept. "))
    live.append("Not yet.")
    assert live.told().answer == "Kept. "
    assert live.snapshot().answer == "Kept. Not yet."
    async with aclosing(live.follow()) as events:
        assert isinstance(await anext(events), Started)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not waiting.done()
        held = True
        live.nudge()
        told = await waiting
        assert isinstance(told, Delta)
        assert told.text == "Kept. Not yet."


async def test_an_end_that_others_kept_is_told_with_the_text_that_they_kept() -> None:
    live = LiveTurn(ADA, turn("1"), lambda: False)
    live.append("Kept. And more that nobody has.")
    early, late = live.follow(), live.follow(10)
    assert [isinstance(await anext(one), Started) for one in (early, late)] == [True, True]
    live.end(turn("1").saying("Kept."))
    rest = [one async for one in early]
    assert [one.text for one in rest if isinstance(one, Delta)] == ["Kept."]
    assert isinstance(rest[-1], Ended)
    assert [type(one) for one in [one async for one in late]] == [Ended]


async def test_pieces_that_lap_over_each_other_are_one_answer() -> None:
    live = LiveTurn(ADA, turn("1"))
    thought = Mark(4, Part(Kind.REASONING))
    live.absorb(0, "One ", ())
    live.absorb(0, "One \ufffcHm", (thought,))
    live.absorb(2, "e \ufffcHm. ", (thought,))
    live.absorb(0, "One", ())
    assert live.snapshot().parts == [
        {"type": "text", "text": "One "},
        {"type": "reasoning", "text": "Hm. "},
    ]
    live.end(live.snapshot())
    assert [one async for one in live.pieces(4)] == [
        Piece(ADA, "turn_1", 4, "\ufffcHm. ", (thought,))
    ]


async def test_what_is_not_kept_is_told_and_goes_on_whoever_is_taken_for_dead() -> None:
    node = node_of(1)
    kept, unkept = node.admit(ADA, turn("1", "c")), node.admit(ADA, turn("2", "d"))
    unkept.is_kept = False
    for live in (kept, unkept):
        live.append("Said.")
    assert [live.told().answer for live in (kept, unkept)] == ["", "Said."]
    node.give_up()
    assert [live.stopped_as for live in (kept, unkept)] == [Status.INTERRUPTED, None]


async def test_who_may_have_missed_something_looks_and_who_watches_all_is_told() -> None:
    node, missed = node_of(1), asyncio.Event()
    node.hear(lambda _owner, _note: None, missed=missed.set)
    heard = node.listen(HERE)
    node.have_missed()
    assert heard.done()
    assert missed.is_set()

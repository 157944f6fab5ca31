"""What every adapter of the port of live turns must do; a fixture `make` is all that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from server.core.errors import DrainingError
from server.live.news import Made, Moved, Note
from server.live.port import LiveTurns
from server.live.waiting import LineWatch, QueueChanged, Waiting, WithdrawnError
from storage.port import BusyError
from tests.storage.nouns import ADA, BOB, turn

#: Makes what is tested; so many may wait for one place.
Make = Callable[[int], LiveTurns]

HERE, THERE = (ADA, "here"), (ADA, "there")


class WhoIsLive:
    """Found from before the beginning to the end, by the owner alone."""

    async def test_one_that_is_admitted_is_found_by_its_id_and_by_its_conversation(
        self, make: Make
    ) -> None:
        turns = make(1)
        live = turns.admit(ADA, turn("1", "c"))
        assert (live.owner, live.turn) == (ADA, turn("1", "c"))
        assert turns.find(ADA, "turn_1") is turns.in_conversation(ADA, "c") is live
        assert list(turns.running()) == [live]

    async def test_another_owner_s_is_not_found(self, make: Make) -> None:
        turns = make(1)
        live = turns.admit(ADA, turn("1", "c"))
        turns.linger(live)
        assert turns.find(BOB, "turn_1") is turns.in_conversation(BOB, "c") is None

    async def test_of_two_owners_with_one_id_each_finds_their_own(self, make: Make) -> None:
        turns = make(1)
        hers, his = (turns.admit(owner, turn("1", "c")) for owner in (ADA, BOB))
        turns.forget(hers)
        assert turns.find(ADA, "turn_1") is turns.in_conversation(ADA, "c") is None
        assert turns.find(BOB, "turn_1") is turns.in_conversation(BOB, "c") is his

    async def test_one_that_lingers_is_found_by_its_id_alone(self, make: Make) -> None:
        turns = make(1)
        live = turns.admit(ADA, turn("1", "c"))
        turns.linger(live)
        turns.forget(live)
        assert turns.find(ADA, "turn_1") is live
        assert turns.in_conversation(ADA, "c") is None
        assert not turns.running()
        following = turns.admit(ADA, turn("2", "c"))
        turns.release(live)
        assert turns.find(ADA, "turn_1") is None
        assert turns.in_conversation(ADA, "c") is following

    async def test_followers_of_all_that_is_live_are_counted(self, make: Make) -> None:
        turns = make(1)
        assert turns.followers == 0
        one, other = (turns.admit(ADA, turn(name, name)) for name in "12")
        one.followers, other.followers = 2, 3
        assert turns.followers == 5
        turns.forget(one)
        assert turns.followers == 3


class Line:
    """Askers of one place, who note when they get it."""

    def __init__(self, turns: LiveTurns) -> None:
        self.turns = turns
        self.served: list[str] = []

    async def ask(
        self, name: str, *, first: bool = False, asks: Waiting | None = None
    ) -> asyncio.Task[None]:
        """Let somebody join the line, and return when they stand in it."""

        async def take() -> None:
            await self.turns.take(HERE, first=first, asks=asks)
            self.served.append(name)

        task = asyncio.create_task(take(), name=name)
        await asyncio.sleep(0)
        return task

    async def next(self) -> None:
        self.turns.give_back(HERE)
        await settled()


def asks(name: str) -> Waiting:
    return Waiting(name, f"{name}?", "rest", 1)


async def settled() -> None:
    """Let everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Queue:
    """Order kept, nobody overtakes, nobody is lost."""

    async def test_a_free_place_is_taken_at_once(self, make: Make) -> None:
        turns = make(0)
        await turns.take(HERE)
        await turns.take(THERE)
        assert turns.taken(HERE)
        turns.give_back(HERE)
        assert not turns.taken(HERE)
        await turns.take(HERE)

    async def test_the_place_goes_on_in_order_of_arrival(self, make: Make) -> None:
        line = Line(make(100))
        for name in "abcd":
            await line.ask(name)
        for _ in range(4):
            assert line.turns.taken(HERE)
            await line.next()
        assert line.served == list("abcd")
        assert not line.turns.taken(HERE)

    async def test_a_newcomer_does_not_overtake_one_who_was_called(self, make: Make) -> None:
        line = Line(make(100))
        await line.ask("a")
        waiting = await line.ask("b")
        line.turns.give_back(HERE)  # b is called and has not yet moved
        newcomer = await line.ask("c")
        await settled()
        assert line.served == ["a", "b"]
        assert waiting.done()
        assert not newcomer.done()
        newcomer.cancel()

    async def test_who_is_first_stands_before_all_others(self, make: Make) -> None:
        line = Line(make(100))
        for name in "abc":
            await line.ask(name)
        await line.ask("urgent", first=True)
        for _ in range(4):
            await line.next()
        assert line.served == ["a", "urgent", "b", "c"]

    async def test_of_two_who_are_first_the_earlier_goes_first(self, make: Make) -> None:
        line = Line(make(100))
        for name in "ab":
            await line.ask(name)
        await line.ask("urgent", first=True)
        await line.ask("urgent too", first=True)
        for _ in range(4):
            await line.next()
        assert line.served == ["a", "urgent", "urgent too", "b"]

    async def test_who_left_the_line_is_passed_over(self, make: Make) -> None:
        line = Line(make(100))
        tasks = {name: await line.ask(name) for name in "abcd"}
        tasks["b"].cancel()
        tasks["d"].cancel()
        await line.next()
        assert line.served == ["a", "c"]
        await line.next()
        assert not line.turns.taken(HERE)

    async def test_who_leaves_in_the_moment_of_the_call_calls_the_next(self, make: Make) -> None:
        line = Line(make(100))
        tasks = {name: await line.ask(name) for name in "abc"}
        line.turns.give_back(HERE)
        tasks["b"].cancel()
        await settled()
        assert line.served == ["a", "c"]
        await line.next()
        assert not line.turns.taken(HERE)

    async def test_too_many_waiting_are_refused(self, make: Make) -> None:
        line = Line(make(2))
        for name in "abc":
            await line.ask(name)
        refused = await line.ask("d")
        with pytest.raises(BusyError):
            await refused
        await line.next()
        await line.ask("e")
        for _ in range(3):
            await line.next()
        assert line.served == ["a", "b", "c", "e"]

    async def test_who_left_the_line_takes_no_room_in_it(self, make: Make) -> None:
        line = Line(make(2))
        tasks = {name: await line.ask(name) for name in "abc"}
        tasks["b"].cancel()
        tasks["c"].cancel()
        await settled()
        await line.ask("d")
        await line.next()
        assert line.served == ["a", "d"]

    async def test_everybody_can_be_sent_away(self, make: Make) -> None:
        line = Line(make(100))
        tasks = [await line.ask(name) for name in "abc"]
        assert line.turns.waiting == 2
        line.turns.refuse_all(DrainingError("closing"))
        assert line.turns.waiting == 0
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), DrainingError, DrainingError]
        assert line.turns.taken(HERE)
        await line.next()
        assert not line.turns.taken(HERE)

    async def test_everybody_gets_the_place_once_whoever_leaves(self, make: Make) -> None:
        line = Line(make(1000))
        tasks = [await line.ask(str(number)) for number in range(200)]
        for task in tasks[1::3]:
            task.cancel()
        while line.turns.taken(HERE):
            await line.next()
        stayed = [str(number) for number in range(200) if number % 3 != 1]
        assert line.served == stayed

    async def test_each_owners_places_are_counted(self, make: Make) -> None:
        line = Line(make(100))
        await line.ask("a")
        await line.ask("b")
        await line.turns.take(THERE)
        assert (line.turns.taken_by(ADA), line.turns.taken_by(BOB)) == (2, 0)
        assert line.turns.taken_by() == 2
        await line.next()
        assert line.turns.taken_by(ADA) == 2  # b has it now
        await line.next()
        line.turns.give_back(THERE)
        assert line.turns.taken_by(ADA) == 0

    async def test_who_leaves_a_place_to_somebody_else_is_the_next_of_his_kind(
        self, make: Make
    ) -> None:
        line = Line(make(1))
        first = await line.ask("a")
        await first
        again = asyncio.ensure_future(line.turns.take_again(HERE, asks=asks("a")))
        await asyncio.sleep(0)
        assert line.turns.line(HERE).waiting == (asks("a"),)
        with pytest.raises(BusyError):
            await line.turns.take(HERE)
        assert await line.turns.withdraw(HERE, "a")
        with pytest.raises(WithdrawnError):
            await again
        await line.ask("b")
        await line.next()
        assert line.served == ["a", "b"]

    async def test_who_is_first_goes_before_one_who_left_his_place(self, make: Make) -> None:
        line, order = Line(make(100)), list[str]()

        async def again(name: str, *, first: bool) -> None:
            await line.turns.take_again(HERE, first=first)
            order.append(name)

        async def take(name: str, *, first: bool) -> None:
            await line.turns.take(HERE, first=first)
            order.append(name)

        await line.turns.take(HERE)
        waiting = [asyncio.create_task(take("c", first=False))]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(again("b", first=False)))
        waiting.append(asyncio.create_task(take("a", first=True)))
        await asyncio.sleep(0)
        for _ in range(3):
            await line.next()
        assert order == ["a", "b", "c"]


class Lines:
    """What is told of who waits, and how a question is taken back."""

    async def test_the_questions_are_told_in_the_order_of_their_calls(self, make: Make) -> None:
        line = Line(make(100))
        await line.ask("a")
        assert line.turns.line(HERE).waiting == ()
        await line.ask("b", asks=asks("b"))
        await line.ask("nobody's")
        await line.ask("c", asks=asks("c"), first=True)
        told = line.turns.line(HERE)
        assert (told.waiting, told.count) == ((asks("c"), asks("b")), 2)
        assert line.turns.line(THERE).count == 0
        await line.next()
        assert line.turns.line(HERE).waiting == (asks("b"),)

    async def test_it_is_the_same_object_while_nothing_changes(self, make: Make) -> None:
        line = Line(make(100))
        await line.ask("a")
        await line.ask("b", asks=asks("b"))
        before = line.turns.line(HERE)
        await line.ask("nobody's")
        assert line.turns.line(HERE) is before
        await line.ask("c", asks=asks("c"))
        assert line.turns.line(HERE) is not before

    async def test_one_that_is_taken_back_is_sent_away_and_no_other(self, make: Make) -> None:
        line = Line(make(100))
        tasks = {name: await line.ask(name, asks=asks(name)) for name in "abc"}
        assert not await line.turns.withdraw(HERE, "nothing")
        assert not await line.turns.withdraw(THERE, "b")
        assert await line.turns.withdraw(HERE, "b")
        assert not await line.turns.withdraw(HERE, "b")
        with pytest.raises(WithdrawnError):
            await tasks["b"]
        assert line.turns.line(HERE).waiting == (asks("c"),)
        await line.next()
        assert line.served == ["a", "c"]
        await line.next()
        assert not line.turns.taken(HERE)

    async def test_one_that_was_called_or_left_is_not_taken_back(self, make: Make) -> None:
        line = Line(make(100))
        tasks = {name: await line.ask(name, asks=asks(name)) for name in "abc"}
        line.turns.give_back(HERE)
        assert not await line.turns.withdraw(HERE, "b")
        tasks["c"].cancel()
        await asyncio.sleep(0)
        assert not await line.turns.withdraw(HERE, "c")
        await settled()
        assert line.served == ["a", "b"]

    async def test_its_changes_are_noted_and_wake_who_listens(self, make: Make) -> None:
        line, notes = Line(make(100)), list[tuple[str, Note]]()
        line.turns.hear(lambda owner, what: notes.append((owner, what)))
        await line.ask("a")
        await line.ask("nobody's")
        assert notes == []
        heard, elsewhere = line.turns.listen(HERE), line.turns.listen(THERE)
        await line.ask("b", asks=asks("b"))
        assert notes == [(ADA, Moved("here"))]
        await heard
        line.turns.refuse_all(DrainingError("closing"))
        assert notes == [(ADA, Moved("here"))] * 2
        assert not elsewhere.done()

    async def test_who_reads_the_turn_there_hears_them_too(self, make: Make) -> None:
        line = Line(make(100))
        live = line.turns.admit(ADA, turn("1", "here"))
        beside = LineWatch("here", lambda: line.turns.line(HERE))
        async with aclosing(live.follow(0, beside)) as events:
            await anext(events)
            following = asyncio.ensure_future(anext(events))
            await line.ask("a")
            await line.ask("b", asks=asks("b"))
            assert await following == QueueChanged("here", line.turns.line(HERE))


class Notes:
    """What happened is told to all who hear."""

    async def test_all_who_hear_are_called_at_once(self, make: Make) -> None:
        turns, heard = make(1), list[tuple[str, Note]]()
        for _ in range(2):
            turns.hear(lambda owner, what: heard.append((owner, what)))
        turns.note(ADA, Made("c"))
        assert heard == [(ADA, Made("c"))] * 2


class Listening:
    """Whoever listens to a place is woken there, and nobody is missed."""

    async def test_a_notice_is_heard_by_all_who_listen_and_by_nobody_else(self, make: Make) -> None:
        turns = make(1)
        heard = [turns.listen(HERE) for _ in range(3)]
        elsewhere = turns.listen(THERE)
        turns.notify(HERE)
        await asyncio.gather(*heard)
        assert not elsewhere.done()

    async def test_a_notice_before_listening_is_not_heard(self, make: Make) -> None:
        turns = make(1)
        turns.notify(HERE)
        assert not turns.listen(HERE).done()

    async def test_a_notice_between_listening_and_waiting_is_heard(self, make: Make) -> None:
        turns = make(1)
        heard = turns.listen(HERE)
        turns.notify(HERE)
        await heard

    async def test_one_who_left_is_forgotten_and_disturbs_nobody(self, make: Make) -> None:
        turns = make(1)
        leaving, staying = turns.listen(HERE), turns.listen(HERE)
        turns.leave(HERE, leaving)
        turns.leave(HERE, leaving)
        assert turns.listening(HERE) == 1
        turns.notify(HERE)
        await staying
        assert leaving.cancelled()
        turns.leave(HERE, staying)

    async def test_one_whose_task_was_cancelled_disturbs_nobody(self, make: Make) -> None:
        turns = make(1)
        cancelled, staying = turns.listen(HERE), turns.listen(HERE)
        cancelled.cancel()
        turns.notify(HERE)
        await staying

    @pytest.mark.parametrize("places", [0, 1, 5])
    async def test_everybody_can_be_notified(self, make: Make, places: int) -> None:
        turns = make(1)
        heard = [turns.listen(("ada", str(place))) for place in range(places)]
        turns.notify_all()
        await asyncio.gather(*heard)

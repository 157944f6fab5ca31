"""Tests of the line before a conversation: order kept, nobody overtakes, nobody is lost."""

from __future__ import annotations

import asyncio

import pytest

from server.core.errors import DrainingError
from server.live.turn_queue import TurnQueue
from storage.port import BusyError

HERE, THERE = ("ada", "here"), ("ada", "there")


class Line:
    """Askers of one place, who note when they get it."""

    def __init__(self, most_waiting: int = 100) -> None:
        self.turn_queue = TurnQueue(most_waiting)
        self.served: list[str] = []

    async def ask(self, name: str, *, first: bool = False) -> asyncio.Task[None]:
        """Let somebody join the line, and return when they stand in it."""

        async def take() -> None:
            await self.turn_queue.take(HERE, first=first)
            self.served.append(name)

        task = asyncio.create_task(take(), name=name)
        await asyncio.sleep(0)
        return task

    async def next(self) -> None:
        self.turn_queue.give_back(HERE)
        await settled()


async def settled() -> None:
    """Let everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_free_place_is_taken_at_once() -> None:
    turn_queue = TurnQueue(0)
    await turn_queue.take(HERE)
    await turn_queue.take(THERE)
    assert turn_queue.taken(HERE)
    turn_queue.give_back(HERE)
    assert not turn_queue.taken(HERE)
    await turn_queue.take(HERE)


async def test_the_place_goes_on_in_order_of_arrival() -> None:
    line = Line()
    for name in "abcd":
        await line.ask(name)
    for _ in range(4):
        assert line.turn_queue.taken(HERE)
        await line.next()
    assert line.served == list("abcd")
    assert not line.turn_queue.taken(HERE)


async def test_a_newcomer_does_not_overtake_one_who_was_called() -> None:
    line = Line()
    await line.ask("a")
    waiting = await line.ask("b")
    line.turn_queue.give_back(HERE)  # b is called and has not yet moved
    newcomer = await line.ask("c")
    await settled()
    assert line.served == ["a", "b"]
    assert waiting.done()
    assert not newcomer.done()
    newcomer.cancel()


async def test_who_is_first_stands_before_all_others() -> None:
    line = Line()
    for name in "abc":
        await line.ask(name)
    await line.ask("urgent", first=True)
    for _ in range(4):
        await line.next()
    assert line.served == ["a", "urgent", "b", "c"]


async def test_of_two_who_are_first_the_earlier_goes_first() -> None:
    line = Line()
    for name in "ab":
        await line.ask(name)
    await line.ask("urgent", first=True)
    await line.ask("urgent too", first=True)
    for _ in range(4):
        await line.next()
    assert line.served == ["a", "urgent", "urgent too", "b"]


async def test_who_left_the_line_is_passed_over() -> None:
    line = Line()
    tasks = {name: await line.ask(name) for name in "abcd"}
    tasks["b"].cancel()
    tasks["d"].cancel()
    await line.next()
    assert line.served == ["a", "c"]
    await line.next()
    assert not line.turn_queue.taken(HERE)


async def test_who_leaves_in_the_moment_of_the_call_calls_the_next() -> None:
    line = Line()
    tasks = {name: await line.ask(name) for name in "abc"}
    line.turn_queue.give_back(HERE)
    tasks["b"].cancel()
    await settled()
    assert line.served == ["a", "c"]
    await line.next()
    assert not line.turn_queue.taken(HERE)


async def test_too_many_waiting_are_refused() -> None:
    line = Line(most_waiting=2)
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


async def test_who_left_the_line_takes_no_room_in_it() -> None:
    line = Line(most_waiting=2)
    tasks = {name: await line.ask(name) for name in "abc"}
    tasks["b"].cancel()
    tasks["c"].cancel()
    await settled()
    await line.ask("d")
    await line.next()
    assert line.served == ["a", "d"]


async def test_everybody_can_be_sent_away() -> None:
    line = Line()
    tasks = [await line.ask(name) for name in "abc"]
    line.turn_queue.refuse_all(DrainingError("closing"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), DrainingError, DrainingError]
    assert line.turn_queue.taken(HERE)
    await line.next()
    assert not line.turn_queue.taken(HERE)


async def test_everybody_gets_the_place_once_whoever_leaves() -> None:
    line = Line(most_waiting=1000)
    tasks = [await line.ask(str(number)) for number in range(200)]
    for task in tasks[1::3]:
        task.cancel()
    while line.turn_queue.taken(HERE):
        await line.next()
    stayed = [str(number) for number in range(200) if number % 3 != 1]
    assert line.served == stayed


async def test_each_owners_places_are_counted() -> None:
    line = Line()
    await line.ask("a")
    await line.ask("b")
    await line.turn_queue.take(THERE)
    assert (line.turn_queue.of("ada"), line.turn_queue.of("bob")) == (2, 0)
    await line.next()
    assert line.turn_queue.of("ada") == 2  # b has it now
    await line.next()
    line.turn_queue.give_back(THERE)
    assert line.turn_queue.of("ada") == 0

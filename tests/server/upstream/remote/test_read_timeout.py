"""How long is waited, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from server.upstream.remote.read_timeout import HELD_UP, Limit, ReadTimeout


class Loop:
    """The part of an event loop that tells time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None], Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, moment: float, look: Callable[..., None], *words: Any) -> Any:
        timer = Timer(self)
        self.timers.append((moment, lambda: look(*words), timer))
        return timer

    def call_soon(self, look: Callable[..., None], *words: Any) -> Any:
        return self.call_at(self.now, look, *words)

    def sleep(self, seconds: float) -> None:
        """Be paused: time goes by, and nothing is done in it."""
        self.now += seconds

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((t for t in self.timers if t[0] <= end), key=lambda t: t[0]):
            moment, look, timer = due[0]
            self.now = max(self.now, moment)
            timer.cancel()
            look()
        self.now = end


class Timer:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def cancel(self) -> None:
        self._loop.timers = [timer for timer in self._loop.timers if timer[2] is not self]


class Wait:
    def __init__(self, total: float) -> None:
        self.loop = Loop()
        self.given_up: list[float] = []
        self.patience = ReadTimeout(
            total,
            lambda: self.given_up.append(self.loop.now),
            loop=self.loop,  # type: ignore[arg-type]
        )


def test_it_gives_up_when_nothing_came() -> None:
    wait = Wait(100)
    wait.patience.renew(5)
    wait.patience.waiting()
    wait.loop.advance(4)
    assert wait.given_up == []
    wait.loop.advance(1)
    assert wait.given_up == [5]
    assert wait.patience.late


def test_what_comes_grants_more() -> None:
    wait = Wait(100)
    wait.patience.renew(5)
    wait.patience.waiting()
    for _ in range(10):
        wait.loop.advance(4)
        wait.patience.resting()
        wait.patience.renew(5)
        wait.patience.waiting()
    assert wait.given_up == []
    wait.loop.advance(5)
    assert wait.given_up == [45]


def test_a_slow_client_costs_no_time() -> None:
    wait = Wait(100)
    wait.patience.renew(5)
    wait.patience.waiting()
    wait.loop.advance(3)
    wait.patience.resting()
    wait.loop.advance(50)
    wait.patience.waiting()
    assert wait.given_up == []
    wait.loop.advance(2)
    assert wait.given_up == [55]


def test_the_whole_time_runs_always() -> None:
    wait = Wait(10)
    wait.patience.renew(5)
    wait.patience.waiting()
    wait.patience.resting()
    wait.loop.advance(20)
    assert wait.given_up == [10]


def test_less_time_than_was_granted_counts_at_once() -> None:
    wait = Wait(100)
    wait.patience.renew(60)
    wait.patience.waiting()
    wait.patience.renew(5)
    wait.loop.advance(5)
    assert wait.given_up == [5]


def test_the_end_stops_it() -> None:
    wait = Wait(10)
    wait.patience.waiting()
    wait.patience.end()
    wait.loop.advance(20)
    assert wait.given_up == []


def test_what_came_while_it_was_paused_is_read_first() -> None:
    wait = Wait(100)
    wait.patience.renew(5)
    wait.patience.waiting()
    wait.loop.sleep(5.5)
    wait.loop.timers.pop(0)[1]()  # it is due: the sockets are read in the next round
    wait.patience.resting()
    wait.patience.renew(5)
    wait.patience.waiting()
    wait.loop.advance(4)
    assert wait.given_up == []
    wait.loop.advance(1)
    assert wait.given_up == [10.5]


@pytest.mark.parametrize("waits", [True, False])
def test_who_was_away_gives_as_long_again(waits: bool) -> None:
    wait = Wait(20)
    wait.patience.renew(5)
    wait.patience.waiting()
    if not waits:
        wait.patience.resting()
    wait.loop.sleep(60)
    wait.loop.advance(4)
    assert wait.given_up == []
    wait.patience.waiting()
    wait.loop.advance(1)
    assert wait.given_up == [65]


async def test_a_limit_ends_what_takes_too_long() -> None:
    limit = Limit(asyncio.get_running_loop().time() + 0.01, 60)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.Event().wait()
    assert limit.expired()


async def test_a_limit_lets_what_has_come_be_read() -> None:
    loop = asyncio.get_running_loop()
    read: asyncio.Future[str] = loop.create_future()
    async with Limit(loop.time(), 60) as limit:
        loop.call_soon(loop.call_soon, read.set_result, "news")
        assert await read == "news"
    assert not limit.expired()


async def test_a_limit_that_ran_out_while_we_were_away_is_granted_again() -> None:
    loop = asyncio.get_running_loop()
    past = loop.time() - 2 * HELD_UP
    limit = Limit(past, 0.01)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.Event().wait()
    assert limit.by > past + HELD_UP


async def test_a_limit_is_renewed_while_it_counts_and_not_after() -> None:
    loop = asyncio.get_running_loop()
    async with Limit(loop.time() + 0.01, 60) as limit:
        limit.renew(loop.time() + 60)
        await asyncio.sleep(0.05)
    limit.renew(loop.time())
    await asyncio.sleep(0.01)
    assert not limit.expired()


async def test_it_runs_on_a_real_clock() -> None:
    given_up = asyncio.Event()
    patience = ReadTimeout(0.01, given_up.set)
    patience.waiting()
    await given_up.wait()
    assert patience.late

"""How long is waited, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from server.upstream.patience import Patience


class Loop:
    """The part of an event loop that tells time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None], Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, moment: float, look: Callable[[], None]) -> Any:
        timer = Timer(self)
        self.timers.append((moment, look, timer))
        return timer

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
        self.patience = Patience(
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


async def test_it_runs_on_a_real_clock() -> None:
    given_up = asyncio.Event()
    patience = Patience(0.01, given_up.set)
    patience.waiting()
    await given_up.wait()
    assert patience.late

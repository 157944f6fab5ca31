"""A circuit breaker: when a failing upstream is left alone, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: so many failures in a row, and it is left alone
PATIENCE = 3
#: how long at first, and at most, in seconds
FIRST_REST = 5.0
LONGEST_REST = 300.0

STATES = ("ok", "failing", "resting")


@dataclass(frozen=True, slots=True)
class State:
    """How an upstream has done: `resting` is how many seconds it will still be left alone."""

    name: str
    calls: int
    failures: int
    failures_in_a_row: int
    resting: float
    #: what it says of itself
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """How it does, in one of three words: `STATES`."""
        if self.resting:
            return "resting"
        return "failing" if self.failures_in_a_row else "ok"


class Health:
    """What is known of one upstream from how its calls ended; `now` is in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._calls = 0
        self._failures = 0
        self._in_a_row = 0
        self._rests_until = 0.0

    @property
    def is_open(self) -> bool:
        return self._now() < self._rests_until

    def tried(self) -> None:
        """Note that it is called; while one call tries whether it is well again, others wait."""
        self._calls += 1
        if self._in_a_row >= PATIENCE:
            self._rests_until = self._now() + FIRST_REST

    def worked(self) -> None:
        """Note that it answered."""
        self._in_a_row = 0
        self._rests_until = 0.0

    def failed(self, asked: float | None = None) -> None:
        """Note that it did not answer; `asked` is how many seconds it wants to be left alone."""
        self._failures += 1
        self._in_a_row += 1
        if self._in_a_row >= PATIENCE:
            rest = FIRST_REST * 2 ** min(self._in_a_row - PATIENCE, 10)
            self._rests_until = self._now() + min(max(rest, asked or 0.0), LONGEST_REST)

    def state(self, name: str) -> State:
        rest = max(0.0, self._rests_until - self._now())
        return State(name, self._calls, self._failures, self._in_a_row, rest)

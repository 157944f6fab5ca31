"""Limits concurrency: how many connections and calls a key or an address may have at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.core.errors import CrowdedError, RateLimitedError


class ConcurrencyLimit:
    """Counts by name: the owner of a key, say, or an address. `most` is None for no bound."""

    def __init__(self, most: int | None, whose: str) -> None:
        self._most = most
        self._whose = whose
        #: how many there are of each name
        self.there: Counter[str] = Counter()
        #: how many more are known of a name, at other servers
        self.elsewhere: Callable[[str], int] = lambda _: 0

    def enter(self, name: str) -> int:
        """Count one more, and return by how many there are too many now."""
        if self._most is None:
            return 0
        self.there[name] += 1
        return max(0, self.there[name] + self.elsewhere(name) - self._most)

    def leave(self, name: str) -> None:
        """Take back what `enter` counted."""
        if self._most is None:
            return
        self.there[name] -= 1
        if not self.there[name]:
            del self.there[name]

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Be counted in this context. Raises RateLimitedError for one too many."""
        try:
            if self.enter(name):
                raise self.refusal
            yield
        finally:
            self.leave(name)

    @property
    def refusal(self) -> RateLimitedError:
        return RateLimitedError(
            f"{self._most} connections and calls of this {self._whose} are open; "
            "please try again when one has ended."
        )


class Room:
    """So many places for all, of which nobody takes more than are left free for the others.

    Who has as many as are free gets no more, so that one alone has half, two have a third each,
    and whoever comes next finds a place: dynamic thresholds (Choudhury and Hahne, 1998).
    """

    def __init__(self, most: int, of: str, shared: Callable[[], bool]) -> None:
        """`of` is what takes the places; while they are not `shared`, one may take them all."""
        self._most = most
        self._of = of
        self._shared = shared
        self._there: Counter[str] = Counter()
        self._taken = 0

    def enter(self, name: str) -> None:
        """Take a place. Raises CrowdedError, and takes none then."""
        free = self._most - self._taken
        if free <= 0:
            raise CrowdedError(
                f"All places for {self._of} are taken; please try again in a moment."
            )
        if self._shared() and self._there[name] >= free:
            raise CrowdedError(
                f"This key has {self._there[name]} of {self._most} places for {self._of}, and no "
                "more than that are free; please try again when one has ended."
            )
        self._there[name] += 1
        self._taken += 1

    def leave(self, name: str) -> None:
        """Give back a place that `enter` took."""
        self._taken -= 1
        self._there[name] -= 1
        if not self._there[name]:
            del self._there[name]

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Have a place in this context. Raises CrowdedError."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave(name)

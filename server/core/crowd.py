"""How much each of many holds open at once, of which the most is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from server.core.errors import RateLimitedError


class Crowd:
    """Counts by name: the owner of a key, say, or an address. `most` is None for no bound."""

    def __init__(self, most: int | None, whose: str) -> None:
        self._most = most
        self._whose = whose
        self._there: Counter[str] = Counter()

    def enter(self, name: str) -> int:
        """Count one more, and return by how many there are too many now."""
        if self._most is None:
            return 0
        self._there[name] += 1
        return max(0, self._there[name] - self._most)

    def leave(self, name: str) -> None:
        """Take back what `enter` counted."""
        if self._most is None:
            return
        self._there[name] -= 1
        if not self._there[name]:
            del self._there[name]

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

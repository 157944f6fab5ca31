"""A queue a conversation: who waits there to run the next turn, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from server.live.port import Place
from storage.port import BusyError


class Waiters:
    """Those who wait for one place: the urgent before the others, each in order of arrival."""

    def __init__(self) -> None:
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def join(self, *, first: bool) -> asyncio.Future[None]:
        """Stand in line; the future is done when one is called, or sent away with an error."""
        called = asyncio.get_running_loop().create_future()
        (self._urgent if first else self._others).append(called)
        return called

    def leave(self, called: asyncio.Future[None]) -> None:
        for line in (self._urgent, self._others):
            if called in line:
                line.remove(called)

    def call(self, error: Exception | None = None) -> bool:
        """Call the next, or send them away with an error; return whether there was one."""
        for line in (self._urgent, self._others):
            while line:
                called = line.popleft()
                if not called.done():
                    if error is None:
                        called.set_result(None)
                    else:
                        called.set_exception(error)
                    return True
        return False


class TurnQueue:
    """Hands each conversation's place from one asker to the next; a newcomer never overtakes."""

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._lines: dict[Place, Waiters] = {}
        self._owners: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many places are taken."""
        return len(self._lines)

    def of(self, owner: str) -> int:
        """Return how many places an owner has taken."""
        return self._owners[owner]

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def taken(self, of: Place) -> bool:
        return of in self._lines

    async def take(self, of: Place, *, first: bool = False) -> None:
        """Wait for the place, `first` before all others. Raises BusyError when too many wait."""
        line = self._lines.get(of)
        if line is None:
            self._lines[of] = Waiters()
            self._owners[of[0]] += 1
            return
        if len(line) >= self._most_waiting:
            raise BusyError(f"{len(line)} questions are waiting in this conversation already.")
        called = line.join(first=first)
        try:
            await called
        except asyncio.CancelledError:
            line.leave(called)
            if called.done() and not called.cancelled() and called.exception() is None:
                self.give_back(of)  # it was called and cancelled in the same moment
            raise

    def give_back(self, of: Place) -> None:
        """Call the next in line, if there is one."""
        if self._lines[of].call():
            return
        del self._lines[of]
        self._owners[of[0]] -= 1
        if not self._owners[of[0]]:
            del self._owners[of[0]]

    def refuse_all(self, error: Exception) -> None:
        """Send away everyone who waits."""
        for line in self._lines.values():
            while line.call(error):
                pass

"""A queue a conversation: who waits there to run the next turn, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator

from server.live.port import Place
from server.live.waiting import MOST_TOLD, NOBODY, Line, Waiting, WithdrawnError
from storage.port import BusyError


class Waiter:
    """One who stands in line; `asks` is None where it is no question."""

    __slots__ = ("asks", "called")

    def __init__(self, asks: Waiting | None) -> None:
        self.asks = asks
        self.called = asyncio.get_running_loop().create_future()


class Waiters:
    """Those who wait for one place: the urgent before the others, each in order of arrival."""

    def __init__(self) -> None:
        self._urgent: deque[Waiter] = deque()
        self._others: deque[Waiter] = deque()
        self._line, self._stale = NOBODY, False

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def __iter__(self) -> Iterator[Waiter]:
        yield from self._urgent
        yield from self._others

    @property
    def line(self) -> Line:
        """The questions among them: the same object for as long as they are the same."""
        if self._stale:
            asks = [one.asks for one in self if one.asks is not None]
            line = Line(tuple(asks[:MOST_TOLD]), len(asks)) if asks else NOBODY
            self._line, self._stale = self._line if line == self._line else line, False
        return self._line

    def has_changed(self) -> bool:
        """Say whether the line is another since it was looked at."""
        before = self._line
        return self.line is not before

    def join(self, asks: Waiting | None, *, first: bool, again: bool = False) -> Waiter:
        """Stand in line, at its head where one was called before; `called` is done when one is
        called, or sent away with an error.
        """
        waiter = Waiter(asks)
        line = self._urgent if first else self._others
        line.insert(0 if again else len(line), waiter)
        self._stale = True
        return waiter

    def leave(self, waiter: Waiter) -> None:
        for line in (self._urgent, self._others):
            if waiter in line:
                line.remove(waiter)
                self._stale = True

    def call(self, error: Exception | None = None) -> bool:
        """Call the next, or send them away with an error; return whether there was one."""
        for line in (self._urgent, self._others):
            while line:
                called = line.popleft().called
                self._stale = True
                if not called.done():
                    if error is None:
                        called.set_result(None)
                    else:
                        called.set_exception(error)
                    return True
        return False

    def withdraw(self, waiting_id: str) -> bool:
        """Send away the one who asks this; return whether there was one."""
        for waiter in self:
            if waiter.asks is not None and waiter.asks.id == waiting_id:
                if waiter.called.done():  # who asked has left, and not yet moved
                    return False
                waiter.called.set_exception(WithdrawnError("This question was taken back."))
                self.leave(waiter)
                return True
        return False


class TurnQueue:
    """Hands each conversation's place from one asker to the next; a newcomer never overtakes."""

    def __init__(self, most_waiting: int, changed: Callable[[Place], None]) -> None:
        """`changed` is called when somebody joined a line or left it."""
        self._most_waiting = most_waiting
        self._changed = changed
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

    def line(self, of: Place) -> Line:
        return self._lines[of].line if of in self._lines else NOBODY

    async def take(self, of: Place, *, first: bool = False, asks: Waiting | None = None) -> None:
        """Wait for the place, `first` before all others. Raises BusyError when too many wait."""
        line = self._lines.get(of)
        if line is None:
            self._lines[of] = Waiters()
            self._owners[of[0]] += 1
            return
        self.refuse_more_than(len(line))
        await self._called(of, line, line.join(asks, first=first))

    async def take_again(
        self, of: Place, *, first: bool = False, asks: Waiting | None = None
    ) -> None:
        """Leave a place to whoever gives it back, and wait for it, before others of one kind."""
        line = self._lines[of]
        await self._called(of, line, line.join(asks, first=first, again=True))

    async def _called(self, of: Place, line: Waiters, waiter: Waiter) -> None:
        self._tell(of, line)
        called = waiter.called
        try:
            await called
        except asyncio.CancelledError:
            line.leave(waiter)
            self._tell(of, line)
            if called.done() and not called.cancelled() and called.exception() is None:
                self.give_back(of)  # it was called and cancelled in the same moment
            raise

    def refuse_more_than(self, waiting: int) -> None:
        """Raise BusyError where so many wait for one place that nobody else may."""
        if waiting >= self._most_waiting:
            raise BusyError(f"{waiting} questions are waiting in this conversation already.")

    def give_back(self, of: Place) -> None:
        """Call the next in line, if there is one."""
        line = self._lines[of]
        if line.call():
            self._tell(of, line)
            return
        del self._lines[of]
        self._owners[of[0]] -= 1
        if not self._owners[of[0]]:
            del self._owners[of[0]]

    def withdraw(self, of: Place, waiting_id: str) -> bool:
        """Send away who waits to ask this; return whether anybody did."""
        line = self._lines.get(of)
        if line is None or not line.withdraw(waiting_id):
            return False
        self._tell(of, line)
        return True

    def refuse_all(self, error: Exception) -> None:
        """Send away everyone who waits."""
        for of, line in self._lines.items():
            while line.call(error):
                pass
            self._tell(of, line)

    def _tell(self, of: Place, line: Waiters) -> None:
        if line.has_changed():
            self._changed(of)

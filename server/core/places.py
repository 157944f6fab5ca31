"""The place of a conversation's one running turn, given in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable

from storage.port import BusyError


class Places:
    """Hands each conversation's place from one asker to the next; a newcomer never overtakes."""

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._lines: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def taken(self, of: Hashable) -> bool:
        return of in self._lines

    async def take(self, of: Hashable, *, first: bool = False) -> None:
        """Wait for the place, `first` before all others. Raises BusyError when too many wait."""
        line = self._lines.get(of)
        if line is None:
            self._lines[of] = deque()
            return
        if len(line) >= self._most_waiting:
            raise BusyError(f"{len(line)} questions are waiting in this conversation already.")
        called = asyncio.get_running_loop().create_future()
        (line.appendleft if first else line.append)(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled() and called.exception() is None:
                self.give_back(of)  # it was called and cancelled in the same moment
            raise

    def give_back(self, of: Hashable) -> None:
        """Call the next in line, if there is one."""
        line = self._lines[of]
        while line:
            called = line.popleft()
            if not called.done():
                called.set_result(None)
                return
        del self._lines[of]

    def refuse_all(self, error: Exception) -> None:
        """Send away everyone who waits."""
        for line in self._lines.values():
            while line:
                called = line.popleft()
                if not called.done():
                    called.set_exception(error)

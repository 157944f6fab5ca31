"""To notify: wakes who waits, the followers of an answer and the watchers of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable


class Listeners:
    """Those who wait for the next news of one thing; each wait hears once."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def listen(self) -> asyncio.Future[None]:
        """Return a future that is done at the next news."""
        heard = asyncio.get_running_loop().create_future()
        self._waiting.append(heard)
        return heard

    def leave(self, heard: asyncio.Future[None]) -> None:
        """Listen no more."""
        heard.cancel()
        if heard in self._waiting:
            self._waiting.remove(heard)

    def wake(self) -> None:
        """Let everybody hear who listens; one that left is cancelled, and hears nothing."""
        waiting, self._waiting = self._waiting, []
        for heard in waiting:
            if not heard.done():
                heard.set_result(None)


class Notifier:
    """Notifies by name. Listen first, then look, then wait: so nothing is missed in between."""

    def __init__(self) -> None:
        self._listeners: dict[Hashable, Listeners] = {}

    def listening(self, to: Hashable) -> int:
        """Return how many listen."""
        return len(self._listeners.get(to, ()))

    def listen(self, to: Hashable) -> asyncio.Future[None]:
        """Return a future that is done at the next notice; `leave` it when it is not awaited."""
        return self._listeners.setdefault(to, Listeners()).listen()

    def leave(self, to: Hashable, heard: asyncio.Future[None]) -> None:
        """Listen no more; a notice that was heard meanwhile may be left as well."""
        heard.cancel()
        if (listeners := self._listeners.get(to)) is None:
            return
        listeners.leave(heard)
        if not listeners:
            del self._listeners[to]

    def notify(self, to: Hashable) -> None:
        """Wake all who listen; nobody else hears."""
        if (listeners := self._listeners.pop(to, None)) is not None:
            listeners.wake()

    def notify_all(self) -> None:
        """Wake everybody, whatever they listen to."""
        for to in list(self._listeners):
            self.notify(to)

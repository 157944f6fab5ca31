"""A bell a conversation: whoever watches it hears that a turn began there."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable


class Notifier:
    """Listen first, then look, then wait: so nothing is missed between looking and waiting."""

    def __init__(self) -> None:
        self._listening: dict[Hashable, list[asyncio.Future[None]]] = {}

    def listen(self, to: Hashable) -> asyncio.Future[None]:
        """Return a future that is done at the next ring; `leave` it when it is not awaited."""
        heard = asyncio.get_running_loop().create_future()
        self._listening.setdefault(to, []).append(heard)
        return heard

    def leave(self, to: Hashable, heard: asyncio.Future[None]) -> None:
        heard.cancel()
        listening = self._listening.get(to, [])
        if heard in listening:
            listening.remove(heard)
        if not listening:
            self._listening.pop(to, None)

    def notify(self, to: Hashable) -> None:
        for heard in self._listening.pop(to, []):
            if not heard.done():
                heard.set_result(None)

    def ring_all(self) -> None:
        for to in list(self._listening):
            self.notify(to)

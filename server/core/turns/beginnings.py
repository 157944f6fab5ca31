"""Turns that are beginning, each in a task of its own: it goes on though its asker leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from server.core.turns.questions import OnDisconnect
from server.live.background import Background
from server.live.port import LiveTurns
from storage.model import Status, Turn


class Beginnings:
    """Owns the tasks in which turns begin."""

    def __init__(self, live: LiveTurns) -> None:
        self._live = live
        self._background = Background()

    async def over(self) -> None:
        """Wait until all have begun, or failed to."""
        await self._background.over()

    def own(self, beginning: Coroutine[Any, Any, Turn]) -> asyncio.Task[Turn]:
        """Begin a turn, to its end whoever leaves."""
        return self._background.begin(beginning)

    async def shielded(
        self, beginning: asyncio.Task[Turn], owner: str, on_leave: OnDisconnect
    ) -> Turn:
        """Wait for a turn to begin; the leaving of whoever waits does not keep it from that."""
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            if on_leave is OnDisconnect.CANCEL:
                beginning.add_done_callback(partial(self._stop, owner))
            raise

    def _stop(self, owner: str, begun: asyncio.Task[Turn]) -> None:
        """Cancel a turn that has begun, if one has: its asker is gone and wants no answer."""
        if begun.cancelled() or begun.exception() is not None:
            return
        if (live := self._live.find(owner, begun.result().id)) is not None:
            live.stop(Status.CANCELLED)
            if not live.is_kept:
                self._live.release(live)

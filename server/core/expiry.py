"""Deletes responses that were kept for their time: the conversations that they alone are in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from server.core.conversations import Conversations
from storage.port import StoreError

log = structlog.get_logger("trialogue.responses")

#: Seconds between two looks.
LOOK = 3600.0
DAY = 24 * 3600 * 1_000_000


class Expiry:
    """Owns the task that looks for them; leaving the context stops it."""

    def __init__(
        self, conversations: Conversations, days: int, now: Callable[[], int], look: float = LOOK
    ) -> None:
        """Without any days nothing is deleted."""
        self._responses = conversations.responses
        self._age = days * DAY
        self._now = now
        self._look = look
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Expiry:
        if self._age:
            self._task = asyncio.create_task(self._for_ever(), name="expiry")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _for_ever(self) -> None:
        while True:
            try:
                await self._responses.expire(self._now() - self._age)
            except StoreError as error:
                log.warning("old responses were not deleted", error=type(error).__name__)
            await asyncio.sleep(self._look)

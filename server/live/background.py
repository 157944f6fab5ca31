"""Work that is done to its end though the one who asked for it has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Owns the tasks of such work."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin some work; shield what is returned where it is awaited."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Nobody may be left to fetch the error; that is no news for the log.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def over(self) -> None:
        """Wait until nothing is left, of what is begun meanwhile either."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """Cancel what is left, and wait until it has ended."""
        await stopped(self._tasks)


async def stopped(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended, however they do."""
    stopping = list(tasks)
    for task in stopping:
        task.cancel()
    await asyncio.gather(*stopping, return_exceptions=True)

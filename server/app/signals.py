"""SIGTERM and SIGINT: the first asks for an end in good order, the second for one at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Context manager in the main thread, around the task that serves.

    Python's own handler counts the signals, between two of its instructions: uvloop's are told in
    the loop's next round, where two that came since the last are one.
    """

    def __init__(self) -> None:
        self.asked, self.hurried = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._serving = self._cut = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if not (self._cut and kind is asyncio.CancelledError and self._task):
            return False
        return self._task.uncancel() == 0

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Leave the second signal to this context; before and behind it, what is done is cut."""
        self._serving = True
        try:
            yield
        finally:
            self._serving = False

    def _hear(self, _: int, __: FrameType | None) -> None:
        self._count += 1
        self._loop.call_soon_threadsafe(self._tell, self._count)

    def _tell(self, count: int) -> None:
        self.asked.set()
        if count < 2:
            return
        self.hurried.set()
        if self._task is not None and not (self._serving or self._cut):
            self._cut = True
            self._task.cancel()

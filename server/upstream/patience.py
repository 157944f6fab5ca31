"""How long a call may keep us waiting: one timer, however many times it is set anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Patience:
    """Calls `give_up` once what is waited for has not come in time; times are in seconds.

    Time runs while `waiting`, and stands while `resting` (the client is slow, not the upstream);
    the `total` runs always.
    """

    def __init__(
        self,
        total: float,
        give_up: Callable[[], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._give_up = give_up
        self._end = self._loop.time() + total
        self._left = total
        self._by = self._end
        self._waits = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self.late = False

    def renew(self, seconds: float) -> None:
        """Grant so long, from now or from when waiting begins."""
        self._left = seconds
        if self._waits:
            self.waiting()

    def waiting(self) -> None:
        """Let the time run."""
        self._waits = True
        self._by = min(self._loop.time() + self._left, self._end)
        if self._timer is None or self._by < self._armed:
            self._arm(self._by)

    def resting(self) -> None:
        """Let the time stand."""
        self._waits = False
        self._left = self._by - self._loop.time()

    def end(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, moment: float) -> None:
        self.end()
        self._armed = moment
        self._timer = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        self._timer = None
        moment = self._by if self._waits else self._end
        if self._loop.time() < moment:
            self._arm(moment)
            return
        self.late = True
        self._give_up()

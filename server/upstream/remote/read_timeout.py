"""The read timeout of a call to an upstream: what has come is looked at before the clock is.

A process that was paused wakes up with its clocks run out and all that was said meanwhile in its
sockets. So a timer that is due lets the loop read first; and where it comes far too late, it was we
who were away: whoever is waited for has as long again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

#: Seconds that a timer is late by where we were paused, or held up.
HELD_UP = 1.0
#: Rounds of the loop, in each of which sockets are read, before a timer that is due counts.
_LOOKS = 3


class Limit:
    """Ends what is done within it with TimeoutError at a moment of the loop's clock, as asyncio's.

    `again` is how many seconds are granted where we were away at that moment; `by` is the moment
    that counted in the end.
    """

    def __init__(self, by: float, again: float) -> None:
        self.by = by
        self._again = again
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.Handle
        self._over = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def renew(self, by: float) -> None:
        """Let another moment count, if it is not over."""
        if not self._over:
            self.by = by
            self._timer.cancel()
            self._arm()

    def expired(self) -> bool:
        """Say whether the moment has come."""
        return self._timeout.expired()

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self.by, self._look, _LOOKS)

    def _look(self, looks: int) -> None:
        now = self._loop.time()
        if now - self.by > HELD_UP:
            self.by = now + self._again
            self._arm()
        elif looks:
            self._timer = self._loop.call_soon(self._look, looks - 1)
        else:
            self._timeout.reschedule(now)


class ReadTimeout:
    """Calls `give_up` once what is waited for has not come in time; times are in seconds.

    Time runs while `waiting`, and stands while `resting` (the client is slow, not the upstream);
    the `total` runs always. Where we were away when it was due, all that was granted is again.
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
        self._left = self._granted = total
        self._by = self._end
        self._waits = False
        self._timer: asyncio.Handle | None = None
        self._armed = 0.0
        self.late = False

    def renew(self, seconds: float) -> None:
        """Grant so long, from now or from when waiting begins."""
        self._left = self._granted = seconds
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
        self._timer = self._loop.call_at(moment, self._look, _LOOKS)

    def _look(self, looks: int) -> None:
        self._timer = None
        moment, now = self._by if self._waits else self._end, self._loop.time()
        if now < moment:
            self._arm(moment)
        elif now - moment > HELD_UP:
            again = now + self._granted
            self._end = max(self._end, again)
            self._by = again if self._waits else self._by
            self._arm(again)
        elif looks:
            self._timer = self._loop.call_soon(self._look, looks - 1)
        else:
            self.late = True
            self._give_up()

"""The rate limit of an owner: one allowance over all wires, which fills again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from server.config.quantities import Rate
from server.core.errors import RateLimitedError
from storage.port import UnavailableError


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to an owner after a request. Times are in seconds from now."""

    limit: int
    remaining: int
    full_after: float
    #: when a request that was refused would not be; None for one that was let through
    wait: float | None = None

    @property
    def refusal(self) -> RateLimitedError | None:
        """Why the request is one too many; None where it is not."""
        if self.wait is None:
            return None
        return RateLimitedError(
            f"You have made as many requests as the limit of {self.limit} allows; "
            f"please try again in {span(self.wait)}.",
            retry_after=self.wait,
        )

    def check(self) -> None:
        """Raise RateLimitedError where the request is one too many."""
        if (refusal := self.refusal) is not None:
            raise refusal


class RateLimit:
    """The generic cell rate algorithm (ITU-T I.371, annex A): a time for each owner, no more.

    A full allowance may be used at once; it fills evenly, so that it is full again after the
    rate's span. `now` is in seconds and never goes back.
    """

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._each = rate.seconds / rate.requests
        self._now = now
        self._full_at: dict[str, float] = {}

    async def counted(self, owner: str) -> Allowance:
        """Count a request of an owner."""
        return self.count(owner)

    def count(self, owner: str) -> Allowance:
        """Count a request of an owner. One that is refused takes nothing."""
        now, limit = self._now(), self._rate.requests
        used = max(0.0, self._full_at.get(owner, now) - now)
        after = used + self._each
        # Sums of floats: a millionth of a request is none.
        if (late := after - self._rate.seconds) > self._each * 1e-6:
            return Allowance(limit, 0, used, wait=late)
        self._full_at[owner] = now + after
        left = (self._rate.seconds - after) / self._each
        return Allowance(limit, int(left + 1e-6), after)


class Counted(Protocol):
    """Where all servers count together."""

    async def count(self, owner: str, each: float, span: float) -> tuple[bool, float]:
        """Return whether a request is let through, and when the allowance is full again.

        Raises UnavailableError.
        """
        ...


class SharedRateLimit:
    """The same, counted with all other servers; alone where that cannot be reached."""

    def __init__(self, rate: Rate, counted: Counted) -> None:
        self._rate = rate
        self._each = rate.seconds / rate.requests
        self._counted = counted
        self._alone = RateLimit(rate)

    async def counted(self, owner: str) -> Allowance:
        """Count a request of an owner. One that is refused takes nothing."""
        limit, span = self._rate.requests, self._rate.seconds
        try:
            let_through, full_after = await self._counted.count(owner, self._each, span)
        except UnavailableError:
            return self._alone.count(owner)
        if not let_through:
            return Allowance(limit, 0, full_after, wait=full_after + self._each - span)
        return Allowance(limit, int((span - full_after) / self._each + 1e-6), full_after)


def span(seconds: float) -> str:
    """Return a span of time as OpenAI's headers have it: 120ms, 8.64s, 6m0s, 1h0m0s."""
    milliseconds = max(0, round(1000 * seconds))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, fraction = divmod(milliseconds, 1000)
    minutes, rest = divmod(whole, 60)
    tail = f"{rest}.{fraction:03}".rstrip("0").rstrip(".") if fraction else f"{rest}"
    if not minutes:
        return f"{tail}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{tail}s" if hours else f"{minutes}m{tail}s"

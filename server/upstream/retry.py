"""How often an upstream is asked again, and after how long: `Retry-After`, or back-off."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_A_DAY = 86_400.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the upstream asks to wait: `retry-after-ms`, or `Retry-After`."""
    asked = _number(headers.get("retry-after-ms"))
    if asked is not None:
        return min(asked / 1000, _A_DAY)
    value = headers.get("retry-after")
    asked = _number(value)
    if asked is None and value is not None:
        asked = _seconds_until(value)
    return None if asked is None else min(asked, _A_DAY)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds_until(date: str) -> float | None:
    try:
        return max(parsedate_to_datetime(date).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError, OSError):
        return None


_LONGEST_BACKOFF = 8.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a try that failed is repeated, and after how many seconds."""

    limit: int = 2
    backoff: float = 0.5
    longest_wait: float = 60.0

    def wait(self, failed: int, asked: float | None) -> float | None:
        """Return how long to wait after the tries that failed before; None if it was the last.

        `asked` is what the upstream asks for: that long it is, or not at all if that is too long.
        """
        if failed >= self.limit:
            return None
        if asked:
            return asked if asked <= self.longest_wait else None
        wait = min(self.backoff * (1 << min(failed, 10)), _LONGEST_BACKOFF)
        return wait * random.uniform(0.75, 1)  # noqa: S311 - spreads clients, hides nothing

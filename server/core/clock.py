"""The time as it is kept: microseconds since 1970, UTC."""

from __future__ import annotations

import time


def microseconds() -> int:
    """Return the time now."""
    return time.time_ns() // 1000

"""Amounts as settings write them: `60/minute`, `1000000/day`, `10m`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE = re.compile(r"(\d{1,9})/(second|minute|hour|day)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a span of so many seconds."""

    requests: int
    seconds: int


def rate(text: str) -> Rate:
    """Read a rate such as `60/minute`. Raises ValueError."""
    found = _RATE.fullmatch("".join(text.split()).lower())
    if found is None or not int(found[1]):
        raise ValueError("must be a rate such as 60/minute; also /second, /hour, /day")
    return Rate(int(found[1]), SECONDS[found[2]])


_BUDGET = re.compile(r"(\d{1,15})/(day|month)")


@dataclass(frozen=True, slots=True)
class Budget:
    """So many tokens a day, or a month, of UTC."""

    tokens: int
    period: str

    def began(self, moment: datetime) -> datetime:
        """Return when the period of a moment began."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self.period == "day" else midnight.replace(day=1)

    def ends(self, moment: datetime) -> datetime:
        """Return when the next period begins."""
        began = self.began(moment)
        if self.period == "day":
            return began + timedelta(days=1)
        return (began + timedelta(days=32)).replace(day=1)


def budget(text: str) -> Budget:
    """Read a budget such as `100000/day`. Raises ValueError."""
    found = _BUDGET.fullmatch("".join(text.split()).lower())
    if found is None or not int(found[1]):
        raise ValueError("must be tokens such as 100000/day or 2000000/month")
    return Budget(int(found[1]), found[2])


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration(value: object) -> float:
    """Read a time such as `10m`, or a number of seconds, and return it in seconds.

    Raises ValueError.
    """
    found = _DURATION.fullmatch("".join(str(value).split()).lower())
    if found is None:
        raise ValueError("must be a time such as 10m; also s, h, d, or seconds")
    return float(found[1]) * _UNITS[found[2]]

"""Ids: the ones that the server makes, sortable by time, and the ones that callers may choose."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from server.core.errors import InvalidRequestError

#: Crockford's base 32 in lower case: sorts as the number does, and has no letter like a digit.
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_CHOSEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}", re.ASCII)
_RANDOM_BITS = 80
_LAST_MOMENT = (1 << 48) - 1

#: In place of a conversation's id: a fresh one, please.
NEW = "new"


class Ids:
    """Makes ids that sort in the order in which they were made (as ULIDs do).

    48 bits of milliseconds and 80 random ones; within a millisecond the last is counted up.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` is the clock of whoever makes things here, in microseconds."""
        self.now = now
        self._last = 0

    def new(self, prefix: str) -> str:
        """Return a fresh id such as `turn_01kb…`."""
        stamp = min(max(self.now() // 1000, 0), _LAST_MOMENT) << _RANDOM_BITS
        candidate = stamp | secrets.randbits(_RANDOM_BITS)
        self._last = (
            candidate
            if candidate >> _RANDOM_BITS > self._last >> _RANDOM_BITS
            else (self._last + 1 + secrets.randbits(32))
        )
        return f"{prefix}_{_base32(self._last)}"


def answer_id(turn_id: str) -> str:
    """Return the id of a turn's answer, which is known before there is one."""
    return f"msg_{turn_id.removeprefix('turn_')}"


def _base32(number: int) -> str:
    return "".join([_DIGITS[number >> shift & 31] for shift in range(125, -1, -5)])


def check_id(value: str, param: str) -> str:
    """Return an id that a caller chose, or refuse it."""
    if not _CHOSEN.fullmatch(value):
        raise InvalidRequestError(
            f"{param} must be 1 to 128 characters of A-Z a-z 0-9 . _ : ~ - and begin with a "
            "letter or digit.",
            param,
        )
    return value

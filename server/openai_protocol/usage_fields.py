"""What an upstream says that an answer took, in tokens, as far as it can be true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.model import Usage

#: No answer takes more; what says so is not believed, and sums of it stay countable.
MOST_TOKENS = 1 << 40
_NAMES = (
    ("total_tokens",),
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
)


def usage_of(told: object) -> Usage | None:
    """Return a usage in OpenAI's shape; None where it has not both counts, or cannot be true."""
    match told:
        case {"prompt_tokens": prompt, "completion_tokens": completion}:
            counts = _count(prompt), _count(completion)
            return None if None in counts else Usage(*counts)  # type: ignore[arg-type]
        case _:
            return None


def total_of(told: Mapping[str, Any]) -> int:
    """Return the tokens of a usage by whichever names it tells them; 0 where it does not."""
    for names in _NAMES:
        found = [count for name in names if (count := _count(told.get(name))) is not None]
        if found:
            return sum(found)
    return 0


def _count(told: object) -> int | None:
    return told if type(told) is int and 0 <= told <= MOST_TOKENS else None

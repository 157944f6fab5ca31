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
            sent, said = _count(prompt), _count(completion)
            if sent is None or said is None:
                return None
            cached = _detail(told, "prompt_tokens_details", "cached_tokens")
            reasoned = _detail(told, "completion_tokens_details", "reasoning_tokens")
            return Usage(sent, said, cached, reasoned)
        case _:
            return None


def total_of(told: Mapping[str, Any]) -> int:
    """Return the tokens of a usage by whichever names it tells them; 0 where it does not."""
    for names in _NAMES:
        found = [count for name in names if (count := _count(told.get(name))) is not None]
        if found:
            return sum(found)
    return 0


def details_of(usage: Usage) -> dict[str, Any]:
    """Return a usage in OpenAI's shape, with what the upstream said of its details."""
    told: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told


def _detail(told: object, of: str, name: str) -> int | None:
    details = told.get(of) if isinstance(told, dict) else None
    return _count(details.get(name)) if isinstance(details, dict) else None


def _count(told: object) -> int | None:
    return told if type(told) is int and 0 <= told <= MOST_TOKENS else None

"""Reads how far llama.cpp has read a prompt: its `prompt_progress`, told where that is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: No prompt has so many tokens.
_MOST: Final = 1 << 31


def progress_of(chunk: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many tokens were read of those to be read; None where a chunk does not tell.

    What was in its cache was not to be read.
    """
    told = chunk.get("prompt_progress")
    if not isinstance(told, dict):
        return None
    total, processed, cache = (told.get(name, 0) for name in ("total", "processed", "cache"))
    if not all(type(count) is int and 0 <= count < _MOST for count in (total, processed, cache)):
        return None
    return (processed - cache, total - cache) if cache <= processed <= total != cache else None

"""What is begun in steps is undone where its caller is cancelled before it knows what to undo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def made_or_undone(making: Coroutine[Any, Any, T], undo: Callable[[T], object]) -> T:
    """Return what is made; a caller that is cancelled meanwhile leaves it to be made and undone."""
    made = asyncio.create_task(making)
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        made.add_done_callback(lambda task: _undo(task, undo))
        raise


def _undo(made: asyncio.Task[T], undo: Callable[[T], object]) -> None:
    if not made.cancelled() and made.exception() is None:
        undo(made.result())

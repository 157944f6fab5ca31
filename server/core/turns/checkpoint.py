"""Checkpoints: the text of all turns that are being written, kept together every so often."""

from __future__ import annotations

import asyncio

import structlog

from server.core.turns.record import Keeping
from server.live.port import LiveTurns
from storage.port import Store, UnavailableError

log = structlog.get_logger("trialogue.turns")

#: Seconds between checkpoints: with the commit behind it, well within the second promised.
CHECKPOINT_SECONDS = 0.4


class Checkpoints:
    """Owns the one task that keeps what a crash would lose of the answers."""

    def __init__(self, store: Store, live: LiveTurns, keeping: Keeping, seconds: float) -> None:
        self._store = store
        self._live = live
        self._keeping = keeping
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin, unless it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._for_ever(), name="checkpoints")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            found = [(live, live.unkept()) for live in self._live.running()]
            pieces = [(live, piece) for live, piece in found if piece is not None]
            if not pieces:
                continue
            try:
                await self._store.checkpoint([piece for _, piece in pieces])
            except UnavailableError as error:
                self._keeping.note(error)
                continue
            except Exception:
                log.exception("answers could not be checkpointed")  # the next time may do
                continue
            self._keeping.note(None)
            for live, piece in pieces:
                live.kept(piece)

"""A store whose imports and deletions stand before each of their steps, where a test wants that."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from storage.sqlite.bulk import Bulk
from storage.sqlite.store import SQLiteStore

T = TypeVar("T")


class Stepping(SQLiteStore):
    """A store that stands before every step of something long once it was told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.statements: list[str] = []
        self._pass = asyncio.Event()
        self._pass.set()
        self._stands = asyncio.Event()

    async def __aenter__(self) -> Stepping:
        await super().__aenter__()
        self._bulk = Bulk(self._paced, self._read)
        await self._writer._connection.run(lambda c: c.set_trace_callback(self.statements.append))
        return self

    async def _paced(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._stands.set()
        await self._pass.wait()
        return await self._writer.step(work)

    def halt(self) -> None:
        """Let no further step be taken."""
        self._pass.clear()

    def go(self) -> None:
        """Let all steps be taken again."""
        self._pass.set()

    async def step(self) -> None:
        """Wait until one stands before a step, let it take that, and wait for the next."""
        await self._stands.wait()
        self._stands.clear()
        self._pass.set()
        self._pass.clear()
        await self._stands.wait()

"""A store in which a deletion takes as long as a test wants."""

from __future__ import annotations

import asyncio
from pathlib import Path

from storage.sqlite.store import SQLiteStore


class SlowDeletion(SQLiteStore):
    """A store that deletes when `go_on` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.deleting, self.go_on = asyncio.Event(), asyncio.Event()

    async def delete(self, owner: str, conversation_id: str) -> None:
        self.deleting.set()
        await self.go_on.wait()
        await super().delete(owner, conversation_id)

"""A store that counts the messages that are read from it, and how often it is asked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from storage.model import Message, Turn
from storage.sqlite.store import SQLiteStore


class CountingStore(SQLiteStore):
    """A store that counts how many messages it is asked for, and the reads of a history."""

    read = 0
    reads = 0

    async def turn(self, *words: Any) -> Turn:
        self.reads += 1
        return await super().turn(*words)

    async def failed(self, *words: Any) -> Collection[str]:
        self.reads += 1
        return await super().failed(*words)

    async def branch(self, *words: Any, **more: Any) -> Sequence[Message]:
        self.reads += 1
        found = await super().branch(*words, **more)
        self.read += len(found)
        return found

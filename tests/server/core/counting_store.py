"""A store that counts the messages that are read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.model import Message
from storage.sqlite.store import SQLiteStore


class CountingStore(SQLiteStore):
    """A store that counts how many messages it is asked for."""

    read = 0

    async def branch(self, *words: Any, **more: Any) -> Sequence[Message]:
        found = await super().branch(*words, **more)
        self.read += len(found)
        return found

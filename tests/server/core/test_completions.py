"""Whose what is stored at an upstream is, where two learn of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from server.core.completions import UpstreamObjects
from storage.model import UpstreamObject
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, BOB


class SlowOwners(SQLiteStore):
    """A store that tells whom it had found when `go_on` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.found, self.go_on = asyncio.Event(), asyncio.Event()

    async def object_owners(self) -> Sequence[str]:
        owners = await super().object_owners()
        self.found.set()
        await self.go_on.wait()
        return owners


async def test_who_stored_something_at_another_server_is_there_too(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "one.db") as store:
        here, there = (UpstreamObjects(store, lambda: 1, others_write=True) for _ in range(2))
        assert await here.alone(ADA)
        await there.remember(BOB, [UpstreamObject("file-1", "files", "main")])
        assert not await here.alone(ADA)


async def test_nobody_is_alone_who_was_joined_while_that_was_asked(tmp_path: Path) -> None:
    store = SlowOwners(tmp_path / "slow.db")
    async with store:
        objects = UpstreamObjects(store, lambda: 1)
        alone = asyncio.create_task(objects.alone(ADA))
        await store.found.wait()
        await objects.remember(BOB, [UpstreamObject("file-1", "files", "main")])
        store.go_on.set()
        assert not await alone
        assert not await objects.alone(ADA)

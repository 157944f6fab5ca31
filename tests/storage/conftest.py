"""Where a database is made, and a store on each adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.port import Store
from storage.postgres.store import PostgresStore
from storage.sqlite.store import SQLiteStore
from tests.support.postgres import emptied


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database is made."""
    return tmp_path / "trialogue.db"


@pytest.fixture
async def store(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Store]:
    """A store on SQLite, or where a test names the fixture of a URL, on PostgreSQL there."""
    url = getattr(request, "param", "sqlite")
    if url == "sqlite":
        async with SQLiteStore(path) as opened:
            yield opened
        return
    async with PostgresStore(await emptied(request.getfixturevalue(url))) as kept:
        yield kept

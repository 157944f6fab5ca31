"""A store on each adapter; PostgreSQL's are emptied databases of one server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from storage.port import Store
from storage.postgres.store import PostgresStore
from storage.sqlite.store import SQLiteStore

_EMPTY = """
DO $$
DECLARE
    one regclass;
BEGIN
    FOR one IN SELECT c.oid FROM pg_class c WHERE c.relkind = 'r'
        AND c.relnamespace = 'public'::regnamespace AND c.relname NOT IN ('migrations', 'pings')
    LOOP
        EXECUTE 'DELETE FROM ' || one;
    END LOOP;
END
$$
"""


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on SQLite, or where a test names the fixture of a URL, on PostgreSQL there."""
    url = getattr(request, "param", "sqlite")
    if url == "sqlite":
        async with SQLiteStore(tmp_path / "trialogue.db") as opened:
            yield opened
        return
    async with PostgresStore(await emptied(request.getfixturevalue(url))) as kept:
        yield kept


async def emptied(url: str) -> str:
    """Delete whatever a test before has left in a database."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        await connection.execute(_EMPTY)
    finally:
        await connection.close()
    return url

"""Forward-only, numbered steps of the PostgreSQL schema, each taken by one of many nodes.

A step that an older release cannot live with is taken a release after the one that can: a rolling
upgrade runs both on one database. `needs` of a step says which release that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

import asyncpg

from storage.postgres.address import Address
from storage.postgres.database import connect, renamed

#: Of all the locks that sessions of this database may name, ours.
LOCK = 0x7472_6961
#: How many steps a release must know to run on a database that has taken this one; where a step is
#: not named here, every release can.
NEEDS: Mapping[int, int] = {}
#: Seconds that a step waits for a table: behind it, everybody waits.
LOCK_SECONDS = 10
#: Seconds that a node waits for another to take the steps.
OTHERS_SECONDS = 120
#: What we ask of a database: this release of PostgreSQL or a later one.
LEAST_VERSION = 150000


class SchemaTooNewError(Exception):
    """The database was written by a later release, and this one cannot run on it."""


class UnfitError(Exception):
    """A PostgreSQL that we cannot keep history in."""


def steps() -> Sequence[str]:
    """Return the SQL of every step, in order."""
    folder = files("storage.postgres") / "schema"
    named = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [entry.read_text(encoding="utf-8") for _, entry in named]


async def migrate(where: Address) -> None:
    """Bring the schema up to date, a transaction a step.

    Raises SchemaTooNewError, UnfitError, UnavailableError.
    """
    connection = await connect(where)
    try:
        await _check_server(connection)
        known, taken = steps(), await version_of(connection)
        for number, sql in enumerate(known[taken:], start=taken + 1):
            await _take(connection, number, sql)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise renamed(error) from error
    finally:
        await connection.close(timeout=2)


async def _check_server(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    version = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
    if version < LEAST_VERSION:
        raise UnfitError(f"it is PostgreSQL {version // 10_000}, and 15 or later is needed")
    encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise UnfitError(f"its encoding is {encoding}: make it with ENCODING 'UTF8'")


async def version_of(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Return how many steps a database has taken. Raises SchemaTooNewError."""
    if await connection.fetchval("SELECT to_regclass('migrations')") is None:
        return 0
    row = await connection.fetchrow("SELECT max(step), max(needs) FROM migrations")
    taken, needs = row if row else (0, 0)
    known = len(steps())
    if (needs or 0) > known:
        raise SchemaTooNewError(
            f"it has schema {taken}, this release knows {known}: start a later release"
        )
    return int(taken or 0)


async def _take(connection: asyncpg.Connection[asyncpg.Record], number: int, sql: str) -> None:
    """Take a step unless it was taken; whoever else is at it is waited for."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{OTHERS_SECONDS}s'")
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        # First of all: that a table is not there is remembered until another is locked.
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (step integer PRIMARY KEY, "
            "needs integer NOT NULL, at timestamptz NOT NULL DEFAULT now())"
        )
        if await version_of(connection) >= number:
            return
        await connection.execute(sql)
        await connection.execute(
            f"INSERT INTO migrations (step, needs) VALUES ({number:d}, {NEEDS.get(number, 1):d})"
        )

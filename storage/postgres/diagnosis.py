"""What a database of PostgreSQL is like, as far as it matters to us; looking changes nothing."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg

from storage.postgres.address import Address
from storage.postgres.database import connect, renamed
from storage.postgres.migrations import LEAST_VERSION, SchemaTooNewError, steps, version_of

#: Seconds that two clocks may be apart without any harm.
CLOCKS_APART = 2.0
#: Seconds in which a notification of our own must have come.
LISTEN_SECONDS = 2.0

Finding = tuple[bool, str]


async def diagnose(where: Address, now: Callable[[], float] = time.time) -> Sequence[Finding]:
    """Return a line for each thing, and whether it is good; `now` is this machine's clock.

    Raises UnavailableError.
    """
    connection = await connect(where, command_timeout=where.patience.answer)
    try:
        found = [one async for one in _looked(where, connection)]
        return [*found, await _clock(connection, now)]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise renamed(error) from error
    finally:
        await connection.close(timeout=2)


async def _looked(where: Address, connection: Any) -> AsyncIterator[Finding]:
    async def setting(name: str) -> str:
        return str(await connection.fetchval("SELECT current_setting($1)", name))

    number, version = int(await setting("server_version_num")), await setting("server_version")
    fit = number >= LEAST_VERSION
    yield fit, f"PostgreSQL {version}{'' if fit else '; 15 or later is needed'}"
    encoding = await setting("server_encoding")
    if encoding != "UTF8":
        yield False, f"its encoding is {encoding}; make it with ENCODING 'UTF8'"
    yield await _schema(connection)
    for name in ("synchronous_commit", "fsync"):
        if await setting(name) == "off":
            yield False, f"{name} is off: what was acknowledged is lost with a crash; turn it on"
    if await setting("default_transaction_read_only") == "on" or await connection.fetchval(
        "SELECT pg_is_in_recovery()"
    ):
        yield False, "nothing can be written there; name the primary"
    if await connection.fetchval("SELECT to_regclass('nodes') IS NOT NULL"):
        yield await _keys(connection)
    yield await _letters(connection)
    yield await _pooler(where, connection)


async def _schema(connection: Any) -> Finding:
    known = len(steps())
    try:
        taken = await version_of(connection)
    except SchemaTooNewError as error:
        return False, str(error)
    if taken >= known:
        return True, f"schema {taken}"
    if not await connection.fetchval("SELECT has_schema_privilege(current_schema(), 'CREATE')"):
        return False, f"schema {taken} of {known}, and we may make no tables there; GRANT CREATE"
    return True, f"schema {taken} of {known}: the next start brings it up"


async def _keys(connection: Any) -> Finding:
    valid, kept = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE revoked_at IS NULL
            AND COALESCE(expires_at > extract(epoch FROM now()) * 1e6, true)), count(*)
        FROM api_keys
        """
    )
    if kept and not valid:
        return False, "no key in it is valid; 'trialogue keys create NAME' makes one"
    return True, f"{valid} valid keys of {kept}"


async def members(where: Address) -> Sequence[tuple[str, str]]:
    """Return the servers that use a database now, each with where others reach it."""
    connection = await connect(where, command_timeout=where.patience.answer)
    try:
        if not await connection.fetchval("SELECT to_regclass('nodes') IS NOT NULL"):
            return ()
        found = await connection.fetch("SELECT id, address FROM nodes ORDER BY id")
        return [(row["id"], row["address"]) for row in found]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise renamed(error) from error
    finally:
        await connection.close(timeout=2)


async def _letters(connection: Any) -> Finding:
    """Say what can be searched: ctype C knows no letters but ASCII's."""
    ctype = await connection.fetchval(
        "SELECT datctype FROM pg_database WHERE datname = current_database()"
    )
    if await connection.fetchval("SELECT to_regclass('messages_pieces') IS NOT NULL"):
        return True, f"ctype {ctype}; any piece of a text is found"
    if await connection.fetchval("SELECT lower(U&'\\0416') = U&'\\0416'"):
        why = f"ctype {ctype} knows ASCII's letters alone"
    elif await connection.fetchval(
        "SELECT NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')"
    ):
        why = "the extension pg_trgm is not to be had"
    else:
        why = "there is no index of them yet"
    return True, f"ctype {ctype}; beginnings of words are found, not pieces of them: {why}"


async def _clock(connection: Any, now: Callable[[], float]) -> Finding:
    """Compare clocks: no node is taken for dead by one, but turns, budgets and keys have times."""
    asked = now()
    there = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    answered = now()
    apart = (asked + answered) / 2 - there
    if abs(apart) <= CLOCKS_APART + (answered - asked) / 2:
        return True, "its clock is as ours"
    said = f"{abs(apart):.0f} s {'behind' if apart > 0 else 'ahead of'}"
    return False, f"its clock is {said} ours: let both keep time by NTP"


async def _pooler(where: Address, connection: Any) -> Finding:
    """Say whether a pooler stands between: it swallows notifications, and may lose statements."""
    if await _hears(where, connection):
        return True, "asked directly; notifications are heard"
    prepared = "" if where.statements == 0 else "; statement_cache_size=0 in the URL fits it"
    return True, f"a pooler stands before it, which swallows notifications{prepared}"


async def _hears(where: Address, connection: Any) -> bool:
    """Have another connection notify this one: through a pooler that hands connections on all is
    well, and nothing comes.
    """
    heard, channel = asyncio.Event(), f"trialogue_{secrets.token_hex(8)}"

    def hear(*_: Any) -> None:
        heard.set()

    other = await connect(where)
    await connection.add_listener(channel, hear)
    try:
        await other.execute(f"NOTIFY {channel}")
        async with asyncio.timeout(LISTEN_SECONDS):
            await heard.wait()
    except TimeoutError:
        return False
    finally:
        await connection.remove_listener(channel, hear)
        await other.close(timeout=2)
    return True

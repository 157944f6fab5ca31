"""A pool of connections to PostgreSQL: each statement is a transaction, and none is cut short."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg

from storage.port import StoreError, UnavailableError
from storage.postgres.address import Address
from storage.postgres.escapes import kept, plain

T = TypeVar("T")
Row = tuple[Any, ...]

#: How often a statement is tried that the database took back, as one of two that wait for
#: each other.
TRIES = 5
#: What a pooler that hands a connection on after each transaction answers where a statement was
#: prepared on another; nothing was done then.
_LOST_STATEMENT = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)
_NAMED = re.compile(r"(?<!:):([a-z_]\w*)")
#: Classes of SQLSTATE that say that the database is away, full, read-only or being stopped.
_AWAY = ("08", "25006", "28", "3D", "40", "53", "55P03", "57", "58", "F0", "XX")


class LostError(UnavailableError):
    """The answer to a statement did not come: whether it was done is not known."""


async def connect(where: Address, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
    """Open a connection of its own; the caller closes it. Raises UnavailableError."""
    options = {"timeout": where.patience.connect, "statement_cache_size": 0} | more
    try:
        return await asyncpg.connect(
            where.url, server_settings={"application_name": "trialogue"}, **options
        )
    except Exception as error:
        raise renamed(error) from error


class Database:
    """Runs statements, each in a transaction of its own that is over when it is answered.

    A caller that is cancelled stops waiting; its statement is done all the same. So no transaction
    is ever open while we do something else, and one that is paused holds no lock.
    """

    def __init__(self, where: Address) -> None:
        self.where = where
        self._prepares = where.statements > 0
        self._replacing = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._beside: set[asyncio.Task[None]] = set()
        #: the last is used; those before it are left to who still has a connection of theirs
        self._pools: list[asyncpg.Pool[asyncpg.Record]] = []
        self._closed = False

    async def open(self) -> None:
        """Open the pool; a connection is made when the first statement wants one."""
        self._pools.append(await self._new_pool(statements=self.where.statements))

    async def close(self) -> None:
        """Wait for what is being done, but not for a database that is away; then cut it off."""
        self._closed = True
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        if self._running:
            await asyncio.wait(self._running, timeout=self.where.patience.connect)
        for pool in self._pools:
            with suppress(Exception):  # one that is away is cut off in the line after
                async with asyncio.timeout(self.where.patience.connect):
                    await pool.close()
            pool.terminate()

    @property
    def waiting(self) -> int:
        """How many statements are not answered yet."""
        return len(self._running)

    async def rows(self, sql: str, **values: Any) -> Sequence[Row]:
        """Run one statement, whose `:name` are these values, and return its rows.

        Raises UnavailableError, and PostgreSQL's own errors where a constraint refuses something.
        """
        positional, names = compiled(sql)
        return await self.finish(self._tried(positional, [kept(values[name]) for name in names]))

    async def row(self, sql: str, **values: Any) -> Row | None:
        """Run one statement and return its first row, if it has one."""
        found = await self.rows(sql, **values)
        return found[0] if found else None

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work to its end, also where the caller is cancelled meanwhile."""
        if self._closed:
            work.close()
            raise UnavailableError("The database is closed.")
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work beside, until the database is closed."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._beside.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have

    async def _tried(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        for tried in range(1, TRIES + 1):
            prepares = self._prepares
            try:
                return await self._once(sql, values)
            except _LOST_STATEMENT as error:
                if not prepares:
                    raise renamed(error) from error
                await self._prepare_no_more()
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
                if tried == TRIES:
                    raise renamed(error) from error
            except Exception as error:
                known = renamed(error)
                if known is error:
                    raise
                raise known from error
        return await self._once(sql, values)

    async def _once(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        async with self._connection() as connection:
            try:
                found = await connection.fetch(sql, *values)
            except (OSError, TimeoutError, asyncpg.ConnectionDoesNotExistError) as error:
                raise LostError(f"The database does not answer: {_said(error)}.") from error
        return [tuple(map(plain, record.values())) for record in found]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = self._pools[-1]
        connection = await pool.acquire(timeout=self.where.patience.free)
        try:
            yield connection
        finally:
            with suppress(Exception):  # it is thrown away then
                await pool.release(connection, timeout=self.where.patience.connect)

    async def _prepare_no_more(self) -> None:
        """Begin anew with connections on which nothing stays prepared."""
        async with self._replacing:
            if self._prepares:
                self._pools.append(await self._new_pool(statements=0))
                self._prepares = False

    async def _new_pool(self, *, statements: int) -> asyncpg.Pool[asyncpg.Record]:
        pool = asyncpg.create_pool(
            self.where.url,
            min_size=0,
            max_size=self.where.pool_size,
            timeout=self.where.patience.connect,
            command_timeout=self.where.patience.answer,
            statement_cache_size=statements,
            reset=_nothing,
            server_settings={"application_name": "trialogue"},
        )
        await pool
        return pool


@lru_cache(maxsize=512)
def compiled(sql: str) -> tuple[str, Sequence[str]]:
    """Return a statement with `$1` in the place of its first `:name` and so on, and the names."""
    names = list(dict.fromkeys(_NAMED.findall(sql)))
    places = {name: f"${place}" for place, name in enumerate(names, start=1)}
    return _NAMED.sub(lambda found: places[found[1]], sql), names


async def _nothing(_: Any) -> None:
    """Reset nothing: no statement of ours leaves anything behind, and it is a round trip."""


def renamed(error: Exception) -> Exception:
    """Return PostgreSQL's troubles as ours; errors of our own and bugs as they are."""
    match error:
        case StoreError() | asyncpg.DataError():
            return error
        case asyncpg.PostgresError(sqlstate=str(state)) if state.startswith(_AWAY):
            return UnavailableError(f"The database cannot be used now: {_said(error)}.")
        case (
            OSError()
            | TimeoutError()
            | asyncpg.InterfaceError()
            | asyncpg.InternalClientError()
            | asyncpg.InvalidSQLStatementNameError()
            | asyncpg.DuplicatePreparedStatementError()
        ):
            return UnavailableError(f"The database cannot be used now: {_said(error)}.")
    return error


def _said(error: Exception) -> str:
    """Return what is wrong in few words, without what a statement was given."""
    if isinstance(error, TimeoutError) and not str(error):
        return "it did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0].rstrip(".")

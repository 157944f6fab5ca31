"""One SQLite connection that does all writes, whose waiting writers share a commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import deque
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, TypeVar

import aiosqlite

from storage.port import StoreError, UnavailableError
from storage.sqlite.integrity import is_damage

T = TypeVar("T")
#: aiosqlite's words for a connection that is closed
_CLOSED = ("Connection closed", "no active connection")
DAMAGED = "The database is damaged; nothing more is written to it until it was looked at."
DAMAGED_VALUE = "The database is damaged: what was kept there cannot be read."
Work = Callable[[sqlite3.Connection], Any]


class WriteConnection(aiosqlite.Connection):
    """An aiosqlite connection that runs a whole function on its thread: one hop, not one a row."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` there and return its result."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result


class GroupCommit:
    """Runs writes in order of arrival; those that wait at the same moment share one fsync.

    Each write is a function of the connection in a savepoint of its own: one that fails harms no
    other. A result is given out after the commit that keeps it. Steps of something long are
    committed one by one, and what else was waiting comes before each.
    """

    def __init__(
        self, connection: WriteConnection, present: Callable[[], None] = lambda: None
    ) -> None:
        """`present` raises where a write would be lost; it is called around every commit."""
        self._connection = connection
        self._present = present
        self._damaged = False
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._steps: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._arrived = asyncio.Event()
        self._pump = asyncio.create_task(self._commit_for_ever(), name="group commit")
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._steps)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` and return its result once it is durable.

        A caller that is cancelled stops waiting; its write is kept all the same.
        """
        return await self._enqueue(self._waiting, work)

    async def step(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do as `write` does with one step of something long, in a commit of its own."""
        return await self._enqueue(self._steps, work)

    async def _enqueue(
        self,
        queue: MutableSequence[tuple[Work, asyncio.Future[Any]]],
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        if self._closed:
            raise UnavailableError("The database is closed.")
        if self._damaged:
            raise UnavailableError(DAMAGED)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.append((work, done))
        self._arrived.set()
        return await done

    def distrust(self, error: BaseException) -> None:
        """Write no more where an error shows that the file is damaged: it would spread."""
        self._damaged = self._damaged or is_damage(error)

    async def close(self) -> None:
        """Commit what waits, then stop."""
        self._closed = True
        self._arrived.set()
        await self._pump

    async def _commit_for_ever(self) -> None:
        while not (self._closed and not self.waiting):
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            if batch:
                await self._commit(batch)
            if self._steps:
                await self._commit([self._steps.popleft()])
            if self._steps:
                self._arrived.set()

    async def _commit(self, batch: Sequence[tuple[Work, asyncio.Future[Any]]]) -> None:
        works = [work for work, _ in batch]
        try:
            outcomes: Sequence[Any] = await self._connection.run(
                lambda c: self._commit_if_present(c, works)
            )
        except Exception as error:  # noqa: BLE001 - given to whoever waits, who raises it
            outcomes = [_Failed(error)] * len(batch)
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if done.done():
                continue
            if isinstance(outcome, _Failed):
                self.distrust(outcome.error)
                done.set_exception(renamed(outcome.error))
            else:
                done.set_result(outcome)

    def _commit_if_present(
        self, connection: sqlite3.Connection, works: Sequence[Work]
    ) -> Sequence[Any]:
        self._present()
        outcomes = commit(connection, works)
        self._present()  # gone meanwhile: nobody may take it for kept
        return outcomes


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error


def commit(connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
    """Run all works in one transaction; return a result or a _Failed for each."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_attempt(connection, work) for work in works]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _attempt(connection: sqlite3.Connection, work: Work) -> Any:
    connection.execute("SAVEPOINT work")
    try:
        result = work(connection)
    except Exception as error:
        if not connection.in_transaction:  # a full disk may have rolled all of it back
            raise
        connection.execute("ROLLBACK TO work")
        result = _Failed(error)
    connection.execute("RELEASE work")
    return result


def at_one_moment(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run a read in one transaction, so that a commit between two statements of it is not seen.

    SQLite gives the key of a deleted row to a new one: what a read has found by its owner must
    not be another owner's by the time that it is looked up by its key.
    """
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def renamed(error: Exception) -> Exception:
    """Return SQLite's troubles as ours; errors of our own and bugs as they are."""
    match error:
        case StoreError() | sqlite3.IntegrityError() | sqlite3.ProgrammingError():
            return error
        case sqlite3.DatabaseError() if is_damage(error):
            return UnavailableError(DAMAGED)
        case UnicodeDecodeError() | json.JSONDecodeError():  # what we wrote can be read
            return UnavailableError(DAMAGED_VALUE)
        case sqlite3.DatabaseError():
            return UnavailableError(f"The database cannot be used now: {error}.")
        case OSError():
            return UnavailableError(f"The database cannot be used now: {error.strerror}.")
        case ValueError() if str(error) in _CLOSED:
            return UnavailableError("The database is closed.")
    return error

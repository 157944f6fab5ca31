"""How a SQLite file is made, locked against other processes, and opened."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from storage.sqlite.files import BESIDE, appear, beside, fresh
from storage.sqlite.group_commit import WriteConnection
from storage.sqlite.integrity import DamagedError, reading
from storage.sqlite.migrations import migrate

BUSY_MILLISECONDS = 2_000


class DatabaseInUseError(Exception):
    """Another process of ours has this database open."""


@asynccontextmanager
async def opened(
    path: Path, connect: Callable[[Path], sqlite3.Connection]
) -> AsyncIterator[WriteConnection]:
    """Open a connection with a thread of its own, and close it in the end."""
    # Made before aiosqlite's thread is: where that fails, no thread is left behind.
    made = await asyncio.to_thread(connect, path)
    connection = WriteConnection(lambda: made, iter_chunk_size=64)
    await connection
    try:
        yield connection
    finally:
        await connection.close()


def make(path: Path) -> None:
    """Make a database where there is none; a crash leaves all of it or nothing."""
    if path.exists():
        return
    for left in (beside(path, ending) for ending in BESIDE):
        if left.exists() and left.stat().st_size:
            raise DamagedError(f"it is not there, but {left.name} is: bring it back, or move both")
    with fresh(path) as made:
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")  # `appear` waits for the disk, once
            migrate(connection)
        with suppress(FileExistsError):  # somebody else made one
            appear(made, path)


def writer(path: Path) -> sqlite3.Connection:
    """Return the connection that does all writes and checkpoints; the schema is brought up."""
    connection = sqlite3.connect(
        path, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None, check_same_thread=False
    )
    return _prepared(connection, _prepare_writer)


def reader(path: Path) -> sqlite3.Connection:
    """Return a connection that reads."""
    return _prepared(reading(path), _prepare_reader)


def _prepared(
    connection: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_writer(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"write-ahead logging is not to be had, only {mode}")
    # FULL: what is acknowledged survives a power cut, not only a crash of ours.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    migrate(connection)


def _prepare_reader(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # the log is opened now, not later


class Lock:
    """Keeps other processes of ours off a database; the kernel drops it when we die."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        # Closing any descriptor of it drops the locks SQLite holds: so ours is closed last.
        self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._file), self._path.stat()):
                raise OSError  # while we opened it, another was put in its place
        except OSError:
            os.close(self._file)
            raise DatabaseInUseError("another server has it open") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

"""Complete copies of a database: made while it is written to, checked, put in its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from storage.sqlite.files import BESIDE, appear, beside, fresh, replace, sync
from storage.sqlite.integrity import examine, reading
from storage.sqlite.opening import Lock

#: Pages that are copied between two words of progress: some megabytes.
STEP = 2_048

Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds."""

    conversations: int
    messages: int
    bytes: int


def copy(source: Path, target: Path, told: Told, *, still: bool = False) -> Copied:
    """Write all that is committed in `source` to the empty file `target`, and check it there.

    Unless it is `still`, another process may write to `source` meanwhile; it is read as it is now.
    `told` hears how many pages are copied, of how many. Raises DamagedError, SchemaTooNewError.
    """
    with closing(reading(source, still=still)) as read:
        read.execute("BEGIN")  # held to the end: what is written meanwhile is not seen
        examine(read, source, whole=False)
        with closing(sqlite3.connect(target, isolation_level=None)) as written:
            written.execute("PRAGMA synchronous = OFF")  # who gives it a name waits for the disk
            read.backup(
                written,
                pages=STEP,
                progress=lambda _, left, pages: told(pages - left, pages),
                sleep=0,
            )
            written.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself
            examine(written, source)
            return Copied(
                _count(written, "conversations"), _count(written, "messages"), target.stat().st_size
            )


def put_in_place(made: Path, path: Path, aside: Path) -> None:
    """Let a checked copy be the database `path`, locked for us, which moves to `aside`.

    Whenever this is cut off, the old database is whole under one of its names, no log lies beside
    a database that it does not belong to, and no server begins on something in between.
    """
    for ending in ("", "-wal", "-journal"):  # -shm is made anew from the log
        if beside(path, ending).exists():
            beside(aside, ending).hardlink_to(beside(path, ending))
    sync(path.parent)
    with fresh(path) as empty, Lock(empty):
        replace(empty, path)
        _remove_beside(path)
        replace(made, path)


def begin_in_place(made: Path, path: Path, aside: Path) -> None:
    """Let a checked copy be the database `path`, where there is none. Raises FileExistsError."""
    for ending in ("-wal", "-journal"):  # of one that was lost
        if beside(path, ending).exists():
            beside(path, ending).rename(beside(aside, ending))
    _remove_beside(path)
    appear(made, path)


def _remove_beside(path: Path) -> None:
    for ending in BESIDE:
        beside(path, ending).unlink(missing_ok=True)
    sync(path.parent)


def _count(connection: sqlite3.Connection, table: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)

"""Whether a file is a sound database of ours, found out without writing to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from storage.sqlite.files import BESIDE, beside
from storage.sqlite.migrations import check_version

#: A start looks through a database up to this size, which takes less than a second.
LOOKED_THROUGH_BYTES = 256 << 20
#: Tables that every release has made.
_OURS = {"conversations", "messages", "turns"}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DamagedError(sqlite3.DatabaseError):
    """It is damaged, or is no database of ours; the text says what helps, in one line."""


def is_damage(error: BaseException) -> bool:
    """Say whether SQLite found that the file is not what it wrote."""
    return getattr(error, "sqlite_errorcode", None) in _DAMAGE


def reading(path: Path, *, still: bool = False) -> sqlite3.Connection:
    """Open a database for reading alone; it cannot even checkpoint, being the last to close.

    Where nobody can write to it meanwhile (`still`) and no log is there, none is made.
    """
    alone = still and not any(beside(path, ending).exists() for ending in BESIDE)
    more = "&immutable=1" if alone else ""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{more}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )


def check(path: Path) -> None:
    """Look at a database that is locked for us. Raises DamagedError, SchemaTooNewError."""
    size = path.stat().st_size
    if size == 0:
        raise DamagedError(f"it is empty; {_help(path)}; or delete it to begin anew")
    with closing(reading(path, still=True)) as connection:
        examine(connection, path, thorough=False, whole=size <= LOOKED_THROUGH_BYTES)
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        if size % page and not beside(path, "-wal").exists():
            raise DamagedError(f"it is damaged (its last page is cut off); {_help(path)}")


def examine(
    connection: sqlite3.Connection, path: Path, *, thorough: bool = True, whole: bool = True
) -> int:
    """Return the schema's version of a sound database. Raises DamagedError, SchemaTooNewError.

    `thorough` compares indices with their tables too; `whole` is false for a look at the head.
    """
    try:
        version = check_version(connection)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        if not names >= _OURS:
            raise DamagedError("it is a database, but none of ours; name another file")
        if whole:
            pragma = "integrity_check" if thorough else "quick_check"
            (found,) = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
            if found != "ok":
                raise DamagedError(f"it is damaged ({found.splitlines()[-1]}); {_help(path)}")
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise DamagedError(f"it is damaged ({error}); {_help(path)}") from error
    return version


def _help(path: Path) -> str:
    return (
        "it was left as it is: 'trialogue restore BACKUP' puts a copy in its place, "
        f"'sqlite3 {path} .recover' shows what can be saved"
    )

"""Forward-only, numbered steps of the SQLite schema; `PRAGMA user_version` counts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from storage.sqlite.fulltext import index, search


class SchemaTooNewError(Exception):
    """The database was written by a later release, which knows more steps than we do."""


#: What a step does besides its SQL, to what an older file holds; in the same transaction.
AND_THEN: Mapping[int, Callable[[sqlite3.Connection], None]] = {
    2: search.index_everything,
    10: search.index_calls,
    12: index.begin_partitions,
}


def steps() -> Sequence[str]:
    """Return the SQL of every step, in order."""
    folder = files("storage.sqlite") / "schema"
    named = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [entry.read_text(encoding="utf-8") for _, entry in named]


def check_version(connection: sqlite3.Connection) -> int:
    """Return how many steps a file has taken. Raises SchemaTooNewError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = len(steps())
    if version > known:
        raise SchemaTooNewError(
            f"it has schema {version}, this release knows {known}: start a later release"
        )
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, a transaction a step. Raises SchemaTooNewError."""
    version, known = check_version(connection), steps()
    for number, sql in enumerate(known[version:], start=version + 1):
        _take(connection, number, sql)


def _take(connection: sqlite3.Connection, number: int, sql: str) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};")
        if number in AND_THEN:
            AND_THEN[number](connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

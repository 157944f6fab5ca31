"""Forward-only, numbered steps of the SQLite schema; `PRAGMA user_version` counts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from storage import search


class SchemaTooNewError(Exception):
    """The database was written by a later release, which knows more steps than we do."""


#: What a step does besides its SQL, to what an older file holds; in the same transaction.
AND_THEN: Mapping[int, Callable[[sqlite3.Connection], None]] = {2: search.index_everything}


def steps() -> Sequence[str]:
    """Return the SQL of every step, in order."""
    folder = files("storage") / "schema" / "sqlite"
    named = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [entry.read_text(encoding="utf-8") for _, entry in named]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, a transaction a step. Raises SchemaTooNewError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = steps()
    if version > len(known):
        raise SchemaTooNewError(
            f"it has schema {version}, this release knows {len(known)}: start a later release"
        )
    for number, sql in enumerate(known[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
        )

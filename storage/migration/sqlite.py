"""A SQLite file as relations, and the file of keys beside it: how history is migrated from, and to.

A target is a file of another name until it is whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from storage.keys import BESIDE_KEYS, KeyFile
from storage.migration.relations import (
    API_KEYS,
    ROWS_AT_ONCE,
    Kind,
    Relation,
    Row,
    Standing,
    identity,
)
from storage.model import ApiKey
from storage.port import AlreadyExistsError
from storage.sqlite import conversations
from storage.sqlite.files import BESIDE, appear, beside
from storage.sqlite.fulltext import index
from storage.sqlite.integrity import check, reading
from storage.sqlite.opening import Lock, make, writer

#: How the names of tables begin that hold nothing of their own: they are written with others.
LEFT_OUT = ("message_pieces", "message_words", "title_pieces", "title_words", "search_", "sqlite_")
#: Columns that have another name here.
_NAMES: Mapping[tuple[str, str], str] = {("lessons", "place"): "rowid"}
#: Flags that are null where they are false.
_NULL_FLAGS = ("unlisted", "free")


class SQLiteHistory:
    """Async context manager: a Source (see relations.py), a file that is locked for us.

    Raises DatabaseInUseError, DamagedError, SchemaTooNewError.
    """

    def __init__(self, path: Path, keys: KeyFile) -> None:
        self._path = path
        self._keys = keys
        self._stack = ExitStack()

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def identity(self) -> str:
        return identity(f"sqlite:{self._path}")

    async def __aenter__(self) -> Self:
        """Open it as a start does: its schema is brought up, and what was half deleted goes."""
        self._open(self._path)
        for key in conversations.hidden(self._connection):
            more = True
            while more:
                with _whole(self._connection):
                    more = conversations.purge(self._connection, key)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, path: Path) -> None:
        self._stack.enter_context(Lock(path))
        check(path)
        self._connection = self._stack.enter_context(closing(writer(path)))

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    async def rows(self, relation: Relation, skip: int = 0) -> AsyncGenerator[Sequence[Row], None]:
        if relation is API_KEYS:
            if keys := _rows_of(self._keys.keys())[skip:]:
                yield keys
            return
        found = self._connection.execute(
            f"SELECT {_named(relation, relation.columns)} FROM {relation.name} "
            f"ORDER BY {_named(relation, relation.order)} LIMIT -1 OFFSET ?",
            (skip,),
        )
        kinds = tuple(relation.columns.values())
        with closing(found):
            while some := found.fetchmany(ROWS_AT_ONCE):
                yield [tuple(map(_read, kinds, row)) for row in some]

    async def count(self, relation: Relation) -> int:
        if relation is API_KEYS:
            return len(self._keys.keys())
        return self._number(f"SELECT count(*) FROM {relation.name}")

    async def last_turn_key(self) -> int:
        return self._number(
            "SELECT COALESCE(max(seq), 0) FROM sqlite_sequence WHERE name = 'turns'"
        )

    async def in_use(self) -> bool:
        return False  # no server opens what is locked for us

    def _number(self, sql: str) -> int:
        (number,) = self._connection.execute(sql).fetchone()
        return int(number)


class SQLiteTarget(SQLiteHistory):
    """A Target: a file that gets its name, and keys theirs, when all is in it."""

    async def __aenter__(self) -> Self:
        return self

    async def standing(self, source: str) -> Standing:
        halves = self._halves()
        if self._path.exists():
            for half in halves:  # whoever gave it its name was cut off before the last line
                if half.samefile(self._path):
                    _remove(half)
            self._stack.enter_context(Lock(self._path))
            self._connection = self._stack.enter_context(closing(reading(self._path)))
            return Standing.FULL
        if halves:
            return Standing.HALF if self._half(source) in halves else Standing.OTHERS_HALF
        self._refuse_keys()
        return Standing.EMPTY

    async def begin(self, source: str) -> None:
        half = self._half(source)
        make(half)
        self._open(half)
        self._connection.execute("PRAGMA synchronous = NORMAL")  # `done` waits for the disk, once
        self._halfway, self._keys_at_last = half, self._keys
        self._keys = KeyFile(beside(half, ".keys"))

    async def begin_anew(self) -> None:
        for half in self._halves():
            _remove(half)

    async def write(self, relation: Relation, rows: Sequence[Row]) -> None:
        if relation is API_KEYS:
            self._keys.replace([*self._keys.keys(), *map(_key, rows)])
            return
        with _whole(self._connection):
            self._write(relation, rows)

    async def finish(self, last_turn_key: int) -> None:
        with _whole(self._connection):
            self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'turns'")
            self._connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES ('turns', ?)", (last_turn_key,)
            )

    async def done(self) -> None:
        if keys := self._keys.keys():
            self._keys = self._keys_at_last
            self._refuse_keys(but=keys)
            self._keys.replace(keys)
        self._connection.execute("PRAGMA journal_mode = DELETE")  # all of it is in one file then
        self._connection.close()
        appear(self._halfway, self._path)
        _remove(self._halfway)

    def _refuse_keys(self, but: Sequence[ApiKey] = ()) -> None:
        if (keys := self._keys.keys()) and list(keys) != list(but):
            raise AlreadyExistsError(
                f"{self._keys.path}: there are keys already; move the file away, or choose "
                "another name for the database."
            )

    def _half(self, source: str) -> Path:
        return self._path.with_name(f".{self._path.name}.{source}.migrating")

    def _halves(self) -> Sequence[Path]:
        return list(self._path.parent.glob(f".{self._path.name}.*.migrating"))

    def _write(self, relation: Relation, rows: Sequence[Row]) -> None:
        self._connection.executemany(
            f"INSERT INTO {relation.name} ({_named(relation, relation.columns)}) "
            f"VALUES ({', '.join('?' * len(relation.columns))})",
            [list(map(_written, relation.columns, row)) for row in rows],
        )
        for row in rows:
            told = dict(zip(relation.columns, row, strict=True))
            if relation.name == "conversations":
                index.add(self._connection, "title", told["key"], told["title"])
            elif relation.name == "messages":
                text = conversations.searchable(told["is_parts"], told["content"])
                index.add(self._connection, "message", told["key"], text)


@contextmanager
def _whole(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _rows_of(keys: Sequence[ApiKey]) -> list[Row]:
    return [
        tuple(place if name == "place" else getattr(key, name) for name in API_KEYS.columns)
        for place, key in enumerate(keys, start=1)
    ]


def _key(row: Row) -> ApiKey:
    told = dict(zip(API_KEYS.columns, row, strict=True))
    del told["place"]
    return ApiKey(**told)


def _named(relation: Relation, columns: Sequence[str] | Mapping[str, Kind]) -> str:
    return ", ".join(_NAMES.get((relation.name, column), column) for column in columns)


def _read(kind: Kind, value: Any) -> Any:
    if kind is Kind.FLAG or (kind is Kind.BOOLEAN and value is not None):
        return bool(value)
    return value


def _written(column: str, value: Any) -> Any:
    return None if value is False and column in _NULL_FLAGS else value


def _remove(half: Path) -> None:
    keys = beside(half, ".keys")
    others = (*(beside(half, one) for one in BESIDE), *(beside(keys, one) for one in BESIDE_KEYS))
    for one in (half, keys, *others):
        one.unlink(missing_ok=True)

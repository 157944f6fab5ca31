"""A database of PostgreSQL as relations: how history is migrated from, and to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

import asyncpg

from storage.migration.relations import RELATIONS, ROWS_AT_ONCE, Kind, Relation, Row, Standing
from storage.migration.relations import identity as named
from storage.port import StoreError, UnavailableError
from storage.postgres import migrations, terms
from storage.postgres.address import address
from storage.postgres.conversations import NOBODY
from storage.postgres.database import connect, renamed
from storage.postgres.escapes import kept, plain
from storage.postgres.store import PostgresStore
from storage.ranking import text_of
from storage.spending import MOST

#: Tables that hold nothing of history: who serves it now, and what they share.
LEFT_OUT = ("migrations", "moving", "pings", "nodes", "cluster", "rates", "rescues", "waiting")
#: Columns that hold nothing of their own: they are written with others, or say who writes now.
LEFT_OUT_COLUMNS = {
    "conversations": ("words", "running", "beside", "importing"),
    "messages": ("words", "spoken"),
    "turns": ("node", "stop"),
    "spending": ("slot",),
}
#: Columns that have another name here.
NAMES: Mapping[tuple[str, str], str] = {("lessons", "window"): "window_tokens"}
#: What is read where a table has it in another form.
_READ = {
    "api_keys": """(
        SELECT row_number() OVER (ORDER BY place) AS place, id, owner, digest, created_at,
            expires_at, revoked_at FROM api_keys
    )""",
    "checkpoints": """(
        WITH kept AS (SELECT turn, sum(length(text)) AS length FROM checkpoints GROUP BY turn),
        heard AS (
            SELECT r.* FROM rescues r LEFT JOIN kept USING (turn)
            WHERE length(r.text) > COALESCE(kept.length, 0)
        )
        SELECT turn, 0 AS position, text, marks FROM heard UNION ALL
        SELECT turn, position, text, marks FROM checkpoints
        WHERE turn NOT IN (SELECT turn FROM heard)
    )""",
    "spending": f"""(
        SELECT owner, day, LEAST(sum(tokens), {MOST})::bigint AS tokens
        FROM spending GROUP BY owner, day
    )""",
}
_READ_COLUMNS = {("conversations", "active_at"): "COALESCE(active_at, updated_at)"}
#: Columns that are written with others, and as what.
_ALSO = {
    "conversations": {"words": "words::tsvector"},
    "messages": {"words": "words::tsvector", "spoken": "spoken"},
    "spending": {"slot": "0"},
}
_SQL = {
    Kind.INTEGER: "bigint",
    Kind.REAL: "double precision",
    Kind.TEXT: "text",
    Kind.BYTES: "bytea",
    Kind.BOOLEAN: "boolean",
    Kind.FLAG: "boolean",
}
#: Counters, and what they have counted to.
_COUNTERS = {
    "pg_get_serial_sequence('api_keys', 'place')": "SELECT max(place) FROM api_keys",
    "pg_get_serial_sequence('conversations', 'key')": "SELECT max(key) FROM conversations",
    "'message_keys'": "SELECT max(key) FROM messages",
    "pg_get_serial_sequence('turns', 'key')": "SELECT GREATEST(max(key), $1) FROM turns",
    "pg_get_serial_sequence('completions', 'key')": "SELECT max(key) FROM completions",
    "pg_get_serial_sequence('upstream_objects', 'key')": "SELECT max(key) FROM upstream_objects",
    "'lesson_places'": "SELECT max(place) FROM lessons",
}
#: Seconds between two looks at the beats of servers.
_LOOK = 2.5


class PostgresHistory:
    """Async context manager: a Source (see relations.py). Raises StoreError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._where = address(url)
        self._identity = ""

    @property
    def place(self) -> str:
        return self._where.shown

    @property
    def identity(self) -> str:
        return self._identity

    async def __aenter__(self) -> Self:
        """Open it as a start does: its schema is brought up, and what was half deleted goes."""
        with _fit():
            async with PostgresStore(self._url):
                pass
        await self._open()
        if await self._value(f"SELECT EXISTS (SELECT FROM conversations WHERE owner = {NOBODY})"):
            await self._connection.close(timeout=2)
            raise UnavailableError("An import is under way there, or was cut off: wait a minute.")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close(timeout=2)

    async def _open(self) -> None:
        self._connection = await connect(self._where)
        secret = await self._value("SELECT secret FROM cluster")
        self._identity = named(f"postgresql:{secret}")

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[None]:
        with _renamed():
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                yield

    async def rows(self, relation: Relation, skip: int = 0) -> AsyncGenerator[Sequence[Row], None]:
        table = _READ.get(relation.name, relation.name)
        columns = ", ".join(_read_as(relation.name, column) for column in relation.columns)
        with _renamed():
            await self._connection.execute(
                f"DECLARE rows NO SCROLL CURSOR FOR SELECT {columns} FROM {table} AS r "
                f"ORDER BY {', '.join(relation.order)} OFFSET {skip:d}"
            )
            while found := await self._connection.fetch(f"FETCH {ROWS_AT_ONCE} FROM rows"):
                yield [tuple(map(plain, record.values())) for record in found]
            await self._connection.execute("CLOSE rows")

    async def count(self, relation: Relation) -> int:
        table = _READ.get(relation.name, relation.name)
        return int(await self._value(f"SELECT count(*) FROM {table} AS r"))

    async def last_turn_key(self) -> int:
        return int(
            await self._value(
                "SELECT COALESCE(pg_sequence_last_value("
                "pg_get_serial_sequence('turns', 'key')::regclass), 0)"
            )
        )

    async def in_use(self) -> bool:
        """Look twice: of a server that was killed a row is left, which stands still."""
        before = await self._beats()
        if not before:
            return False
        await asyncio.sleep(_LOOK)
        return any(before.get(node) != beat for node, beat in (await self._beats()).items())

    async def _beats(self) -> Mapping[str, int]:
        with _renamed():
            found = await self._connection.fetch("SELECT id, beat FROM nodes")
        return {str(row["id"]): int(row["beat"]) for row in found}

    async def _value(self, sql: str) -> Any:
        with _renamed():
            return await self._connection.fetchval(sql)


class PostgresTarget(PostgresHistory):
    """A Target: a database with a row in `moving` until all is in it."""

    async def __aenter__(self) -> Self:
        with _fit():
            await migrations.migrate(self._where)
        await self._open()
        return self

    async def standing(self, source: str) -> Standing:
        half = await self._value("SELECT source FROM moving")
        if half is not None:
            return Standing.HALF if half == source else Standing.OTHERS_HALF
        for relation in RELATIONS:
            if await self._value(f"SELECT EXISTS (SELECT FROM {relation.name})"):
                return Standing.FULL
        return Standing.EMPTY

    async def begin(self, source: str) -> None:
        await self._execute(
            "INSERT INTO moving SELECT $1 WHERE NOT EXISTS (SELECT FROM moving)", source
        )

    async def begin_anew(self) -> None:
        with _renamed():
            async with self._connection.transaction():
                for relation in reversed(RELATIONS):
                    await self._connection.execute(f"DELETE FROM {relation.name}")
                await self._connection.execute("DELETE FROM moving")

    async def write(self, relation: Relation, rows: Sequence[Row]) -> None:
        also = _ALSO.get(relation.name, {})
        columns = {**relation.columns, **dict.fromkeys(also, Kind.TEXT)}
        given = {name: list(values) for name, values in _columns(relation, rows).items()}
        given |= await asyncio.to_thread(_made_of, relation.name, given)
        columns = {name: kind for name, kind in columns.items() if name in given}
        typed = ", ".join(
            f"${place}::{_SQL[kind]}[]" for place, kind in enumerate(columns.values(), start=1)
        )
        into = [*relation.columns, *also]
        names = ", ".join(_written_as(relation.name, column) for column in into)
        await self._execute(
            f"INSERT INTO {relation.name} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {', '.join(also.get(column, f'r.{_quoted(column)}') for column in into)} "
            f"FROM unnest({typed}) AS r ({', '.join(map(_quoted, columns))})",
            *(kept(given[name]) for name in columns),
        )

    async def finish(self, last_turn_key: int) -> None:
        for counter, reached in _COUNTERS.items():
            values = (last_turn_key,) if "$1" in reached else ()
            sql = f"SELECT setval({counter}, n, true) FROM ({reached}) AS r (n) WHERE n > 0"
            await self._execute(sql, *values)
        await self._execute(
            """
            UPDATE conversations c SET running = r.running, beside = r.beside FROM (
                SELECT conversation, bool_or(NOT free) AS running,
                    count(*) FILTER (WHERE free) AS beside
                FROM turns WHERE status = 'running' GROUP BY conversation
            ) r WHERE c.key = r.conversation
            """
        )
        await self._execute("ANALYZE")

    async def done(self) -> None:
        await self._execute("DELETE FROM moving")

    async def _execute(self, sql: str, *values: Any) -> None:
        with _renamed():
            await self._connection.execute(sql, *values)


def _columns(relation: Relation, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
    return dict(zip(relation.columns, zip(*rows, strict=True), strict=True))


def _made_of(table: str, given: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what is kept beside what is given, so that it is found."""
    if table == "conversations":
        return {"words": [terms.vector(title) for title in given["title"]]}
    if table == "messages":
        said = zip(given["is_parts"], given["content"], strict=True)
        spoken = [text_of(json.loads(text)) if is_parts else None for is_parts, text in said]
        texts = zip(spoken, given["content"], strict=True)
        words = [terms.vector(text if said is None else said) for said, text in texts]
        return {"words": words, "spoken": spoken}
    return {}


def _quoted(column: str) -> str:
    return f'"{column}"'


def _written_as(table: str, column: str) -> str:
    return _quoted(NAMES.get((table, column), column))


def _read_as(table: str, column: str) -> str:
    return _READ_COLUMNS.get((table, column)) or f"r.{_written_as(table, column)}"


@contextmanager
def _renamed() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise renamed(error) from error


@contextmanager
def _fit() -> Iterator[None]:
    try:
        yield
    except (migrations.SchemaTooNewError, migrations.UnfitError) as error:
        raise StoreError(f"The database cannot be used: {error}.") from error

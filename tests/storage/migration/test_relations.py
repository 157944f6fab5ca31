"""History as relations: nothing that is kept is forgotten, and all comes through, both ways."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.keys import KeyFile
from storage.migration import postgres, sqlite
from storage.migration.postgres import PostgresHistory, PostgresTarget
from storage.migration.relations import RELATIONS, Digest, Source, Target, digest
from storage.migration.sqlite import SQLiteHistory, SQLiteTarget
from storage.model import Query, Status
from storage.port import Piece
from storage.postgres.store import PostgresStore
from storage.sqlite.opening import make
from storage.sqlite.store import SQLiteStore
from tests.storage.migration.filled import KEYS, fill, keep_keys
from tests.storage.nouns import ADA, BOB, begin
from tests.support.postgres import fetched

Digests = dict[str, Digest]


def columns_of_ours(left_out_columns: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    return {one.name: {*one.columns, *left_out_columns.get(one.name, ())} for one in RELATIONS}


def test_every_column_of_sqlite_is_carried(tmp_path: Path) -> None:
    make(tmp_path / "db")
    ours = columns_of_ours({})
    with closing(sqlite3.connect(tmp_path / "db")) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        kept = [name for name in tables if not name.startswith(sqlite.LEFT_OUT)]
        found = {
            name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for name in kept
        }
    assert found.keys() | {"api_keys"} == ours.keys()
    ours["lessons"].discard("place")  # the row's own number there
    assert found == {name: ours[name] for name in found}


async def test_every_column_of_postgresql_is_carried(empty_postgres: str) -> None:
    async with PostgresTarget(empty_postgres):
        pass
    found: dict[str, set[str]] = {}
    for table, column in await fetched(
        empty_postgres,
        "SELECT table_name::text, column_name::text FROM information_schema.columns "
        "WHERE table_schema = 'public'",
    ):
        if table not in postgres.LEFT_OUT:
            found.setdefault(str(table), set()).add(str(column))
    for (table, ours), theirs in postgres.NAMES.items():
        found[table] = {ours if column == theirs else column for column in found[table]}
    assert found == columns_of_ours(postgres.LEFT_OUT_COLUMNS)


async def digests(source: Source) -> Digests:
    async with source.moment():
        return {one.name: await digest(source, one) for one in RELATIONS}


async def brought(source: Source, target: Target) -> Digests:
    """Bring everything over as the command does; return what there was."""
    await target.standing(source.identity)
    await target.begin(source.identity)
    async with source.moment():
        for relation in RELATIONS:
            async for rows in source.rows(relation):
                await target.write(relation, rows)
        await target.finish(await source.last_turn_key())
    found = await digests(source)
    assert await digests(target) == found
    await target.done()
    return found


async def test_something_of_everything_goes_there_and_back(
    tmp_path: Path, empty_postgres: str
) -> None:
    path, back = tmp_path / "a.db", tmp_path / "b.db"
    async with SQLiteStore(path) as store:
        await fill(store)
    keep_keys(KeyFile(tmp_path / "a.keys"))
    async with (
        SQLiteHistory(path, KeyFile(tmp_path / "a.keys")) as source,
        PostgresTarget(empty_postgres) as target,
    ):
        there = await brought(source, target)
        assert [name for name, found in there.items() if not found.rows] == []
        last = await source.last_turn_key()
        assert await target.last_turn_key() == last
    async with (
        PostgresHistory(empty_postgres) as half_way,
        SQLiteTarget(back, KeyFile(tmp_path / "b.keys")) as home,
    ):
        assert await brought(half_way, home) == there
    async with SQLiteHistory(back, KeyFile(tmp_path / "b.keys")) as source:
        assert await digests(source) == there
        assert await source.last_turn_key() == last
    assert KeyFile(tmp_path / "b.keys").keys() == KEYS
    assert {one.name for one in tmp_path.iterdir()} >= {"a.db", "b.db", "a.keys", "b.keys"}
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("way", ["to postgresql", "to sqlite"])
async def test_what_came_is_used_as_what_was_made_there(
    tmp_path: Path, empty_postgres: str, way: str
) -> None:
    """Turns go on and are ended, keys are counted on, and words are found."""
    path, keys = tmp_path / "a.db", KeyFile(tmp_path / "a.keys")
    if way == "to postgresql":
        async with SQLiteStore(path) as made:
            await fill(made)
        async with SQLiteHistory(path, keys) as source, PostgresTarget(empty_postgres) as target:
            await brought(source, target)
    else:
        async with PostgresStore(empty_postgres) as made:
            await fill(made)
        async with PostgresHistory(empty_postgres) as source, SQLiteTarget(path, keys) as target:
            await brought(source, target)
    opened = PostgresStore(empty_postgres) if way == "to postgresql" else SQLiteStore(path)
    async with opened as store:
        ((owner, running),) = await store.orphans()
        assert (owner, running.id) == (ADA, "turn_5")
        assert running.content == [
            {"type": "text", "text": "Sö"},
            {"type": "reasoning", "text": " far"},
        ]
        await begin(store, "7", into="new")
        turns = await store.every_turn(ADA, "new", after=None, limit=5)
        assert [one.id for one in turns] == ["turn_7"]
        for words, where in (("日本", "c"), ("élan", "c"), ("Ténèb", "d"), ("clock", "d")):
            hits = await store.search(ADA, Query(words), limit=5)
            assert {hit.conversation_id for hit in hits.items} == {where}, words
        assert len(await store.every_message(BOB, "long", after=None, limit=1000)) == 900
        await store.delete(BOB, "long")
        assert running.status is Status.RUNNING
        await store.withdraw(ADA, "turn_5")
        await store.delete(ADA, "running")


async def test_what_was_rescued_of_an_answer_goes_along(
    tmp_path: Path, empty_postgres: str
) -> None:
    async with PostgresStore(empty_postgres) as store:
        await begin(store)
        await store.checkpoint([Piece(ADA, "turn_1", 0, "So "), Piece(ADA, "turn_1", 3, "far")])
        await store.members.rescue(Piece(ADA, "turn_1", 0, "So far so good"))
    async with (
        PostgresHistory(empty_postgres) as source,
        SQLiteTarget(tmp_path / "a.db", KeyFile(tmp_path / "a.keys")) as target,
    ):
        await brought(source, target)
    async with SQLiteStore(tmp_path / "a.db") as kept:
        ((_, turn),) = await kept.running()
        assert turn.answer == "So far so good"

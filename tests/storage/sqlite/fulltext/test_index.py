"""Partitions of the full-text indexes: what is found in many is what would be found in one."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from storage.model import Query
from storage.sqlite import migrations
from storage.sqlite.fulltext import index
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, exchange

WORDS = ("elephant", "élan", "日本", "red", "it", "fence")


def partitions(path: Path, of: str) -> Sequence[int]:
    with closing(sqlite3.connect(path)) as connection:
        return index.newest_first(connection, of, 1 << 62)


def indexed(path: Path) -> dict[str, int]:
    """Return how many texts each table of the indexes has; each is consistent."""
    found = {}
    with closing(sqlite3.connect(path)) as connection:
        for of in ("message", "title"):
            for since in index.newest_first(connection, of, 1 << 62):
                for kind in ("pieces", "words"):
                    name = index.table(of, kind, since)
                    connection.execute(f"INSERT INTO {name} ({name}) VALUES ('integrity-check')")
                    sql = f"SELECT count(*) FROM {name}_docsize"
                    (found[name],) = connection.execute(sql).fetchone()
    return found


async def live(store: SQLiteStore, chance: random.Random) -> None:
    """Ask, rename and delete; the same for the same seed."""
    there: list[str] = []
    for number in range(60):
        match chance.random():
            case low if low < 0.15 and there:
                await store.delete(ADA, there.pop(chance.randrange(len(there))))
            case low if low < 0.35 and there:
                title = " ".join(chance.choices(WORDS, k=2))
                await store.update(ADA, chance.choice(there), {"title": title}, number)
            case _:
                text = " ".join(chance.choices(WORDS, k=4))
                await exchange(store, f"{number}", content=text, into=f"c{number}")
                there.append(f"c{number}")


async def all_found(store: SQLiteStore, words: str) -> list[str]:
    hits: list[str] = []
    more = True
    while more:
        after = hits[-1] if hits else None
        page = await store.search(ADA, Query(words), limit=2, after=after)
        hits += [hit.message.id if hit.message else hit.conversation_id for hit in page.items]
        more = page.has_more
    titled = (await store.conversations(ADA, limit=50, q=words)).items
    return [*hits, *(one.id for one in titled)]


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_found_in_many_is_what_is_found_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    found = []
    for keys, name in ((1 << 16, "one"), (5, "many")):
        monkeypatch.setattr(index, "KEYS", keys)
        async with SQLiteStore(tmp_path / name) as store:
            await live(store, random.Random(seed))
            found.append([await all_found(store, words) for words in (*WORDS, "red it", "zebra")])
    assert found[0] == found[1]
    assert any(found[0])
    assert partitions(tmp_path / "one", "message") == [0]
    assert len(partitions(tmp_path / "many", "message")) > 5
    assert len(partitions(tmp_path / "many", "title")) > 5
    one, many = indexed(tmp_path / "one"), indexed(tmp_path / "many")
    for kind in ("message_pieces", "message_words", "title_pieces", "title_words"):
        assert one[kind] == sum(n for name, n in many.items() if name.startswith(kind))


async def test_what_an_older_release_has_indexed_is_one_partition(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(index, "KEYS", 1 << 16)
        async with SQLiteStore(path) as store:
            for number in range(9):
                await exchange(store, f"{number}", content="elephant", into=f"c{number}")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE search_partitions; PRAGMA user_version = 11;")
    monkeypatch.setattr(index, "KEYS", 4)
    steps = migrations.steps()[:12]
    monkeypatch.setattr(migrations, "steps", lambda: steps)

    async with SQLiteStore(path) as store:
        assert partitions(path, "message") == [19, 0]
        assert partitions(path, "title") == [10, 0]
        await store.update(ADA, "c5", {"title": "Zebra"}, 9)
        await exchange(store, "9", content="elephant", into="c9")
        assert len((await store.search(ADA, Query("elephant"), limit=50)).items) == 10
    assert indexed(path)["message_pieces"] == 18

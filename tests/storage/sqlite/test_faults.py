"""Tests of files that are damaged, gone or somebody else's: nothing is lost, nothing is spoilt."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage.model import Query
from storage.port import Piece, StoreError, UnavailableError
from storage.sqlite import integrity
from storage.sqlite.integrity import DamagedError
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, begin, conversation, exchange, outcome

PAGE = 4096


@pytest.fixture
async def sound(path: Path) -> bytes:
    """What a sound database holds; it lies at `path`, and nobody has it open."""
    async with SQLiteStore(path) as store:
        for number in range(8):
            await exchange(store, str(number), into=f"c{number}", content="word " * 200)
    return path.read_bytes()


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Write into a file as it lies; for one that another connection of this process has open."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(data)


def others(path: Path) -> bytes:
    """Return a database of some other program."""
    made = path.with_name("other")
    with closing(sqlite3.connect(made)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute("PRAGMA user_version = 1")
    content = made.read_bytes()
    made.unlink()
    return content


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda _: b"Dear diary,\n" * 400,
    "zeros": lambda data: bytes(len(data)),
    "empty": lambda _: b"",
    "header overwritten": lambda data: b"\xff" * 100 + data[100:],
    "first page overwritten": lambda data: data[:100] + b"\xff" * (PAGE - 100) + data[PAGE:],
    "middle overwritten": lambda data: data[: 20 * PAGE] + b"\xff" * 5 * PAGE + data[25 * PAGE :],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut within a page": lambda data: data[: len(data) - 100],
    "cut within the first page": lambda data: data[:1000],
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_file_is_refused_with_what_helps_and_left_as_it_is(
    path: Path, sound: bytes, kind: str
) -> None:
    damaged = DAMAGE[kind](sound)
    path.write_bytes(damaged)
    with pytest.raises(DamagedError) as refused:
        async with SQLiteStore(path):
            pass
    assert "trialogue restore BACKUP" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == damaged
    assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_a_damaged_file_and_its_log_are_left_as_they_are(path: Path, sound: bytes) -> None:
    async with SQLiteStore(path) as store:
        await exchange(store, "late", into="late")
        log = Path(f"{path}-wal").read_bytes()
    damaged = DAMAGE["middle overwritten"](sound)
    path.write_bytes(damaged)
    Path(f"{path}-wal").write_bytes(log)
    with pytest.raises(DamagedError):
        async with SQLiteStore(path):
            pass
    assert path.read_bytes() == damaged
    assert Path(f"{path}-wal").read_bytes() == log


async def test_another_program_s_database_is_refused_and_left_as_it_is(path: Path) -> None:
    content = others(path)
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="none of ours"):
        async with SQLiteStore(path):
            pass
    assert path.read_bytes() == content


async def test_a_log_without_its_database_is_not_thrown_away(path: Path) -> None:
    log = Path(f"{path}-wal")
    log.write_bytes(b"what was committed last")
    with pytest.raises(DamagedError, match="is not there"):
        async with SQLiteStore(path):
            pass
    assert log.read_bytes() == b"what was committed last"
    assert not path.exists()


async def test_two_that_begin_at_once_make_one_database(path: Path) -> None:
    stores = [SQLiteStore(path) for _ in range(4)]
    opened = await asyncio.gather(*(one.__aenter__() for one in stores), return_exceptions=True)
    (first,) = [one for one in opened if isinstance(one, SQLiteStore)]
    await exchange(first)
    await first.close()
    async with SQLiteStore(path) as store:
        assert len((await store.conversations(ADA, limit=5)).items) == 1
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_start_looks_through_what_takes_no_second() -> None:
    assert integrity.LOOKED_THROUGH_BYTES == 256 << 20


# Files that go while they are open


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def put_another_in_its_place(path: Path) -> None:
    path.with_name("another.db").write_bytes(path.read_bytes())
    path.with_name("another.db").replace(path)


def delete_the_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_the_index_of_the_log(path: Path) -> None:
    Path(f"{path}-shm").unlink()


@pytest.mark.parametrize(
    "harm",
    [delete, move, put_another_in_its_place, delete_the_log, delete_the_index_of_the_log],
    ids=lambda harm: str(harm.__name__),
)
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    path: Path, harm: Callable[[Path], None]
) -> None:
    async with SQLiteStore(path) as store:
        await exchange(store)
        harm(path)
        for call in (
            store.create(ADA, conversation("new")),
            begin(store, "2", into="c2"),
            store.checkpoint([Piece(ADA, "turn_1", 0, "text")]),
            store.ping(),
        ):
            with pytest.raises(UnavailableError, match="moved, deleted or replaced"):
                await call
        assert (await store.conversation(ADA, "c")).message_count == 2  # reading goes on
        with pytest.raises(StoreError):
            await store.conversation(ADA, "new")


async def test_a_file_that_is_brought_back_is_used_again(path: Path) -> None:
    async with SQLiteStore(path) as store:
        path.rename(path.with_name("moved.db"))
        with pytest.raises(UnavailableError):
            await store.ping()
        path.with_name("moved.db").rename(path)
        await exchange(store)
    async with SQLiteStore(path) as store:
        assert (await store.conversation(ADA, "c")).message_count == 2


async def test_whoever_lost_its_file_leaves_the_next_one_s_log_alone(path: Path) -> None:
    async with SQLiteStore(path) as first:
        await exchange(first, "first", into="first")
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).rename(path.with_name(f"old-{name}"))
        async with SQLiteStore(path) as second:
            await exchange(second, "second", into="second")
            log = Path(f"{path}-wal").stat().st_ino
            await first.close()
            assert Path(f"{path}-wal").stat().st_ino == log
            await exchange(second, "third", into="third")
    async with SQLiteStore(path) as kept:
        assert {one.id for one in (await kept.conversations(ADA, limit=5)).items} == {
            "second",
            "third",
        }


# Damage that is found while it runs


async def test_what_is_found_damaged_is_not_written_to_any_more(path: Path, sound: bytes) -> None:
    async with SQLiteStore(path) as store:
        assert len((await store.conversations(ADA, limit=50)).items) == 8
        overwrite(path, PAGE, b"\xff" * (len(sound) - PAGE))
        with pytest.raises(UnavailableError, match="damaged"):
            await store.branch(ADA, "c5", "a_5", limit=9)
        damaged = path.read_bytes()
        for call in (store.ping(), store.create(ADA, conversation("new")), begin(store, into="n")):
            with pytest.raises(UnavailableError, match="damaged"):
                await call
    assert path.read_bytes() == damaged
    with pytest.raises(DamagedError):
        async with SQLiteStore(path):
            pass


CALLS: list[Callable[[SQLiteStore], Awaitable[Any]]] = [
    *(lambda s, c=f"c{n}": s.conversation(ADA, c) for n in range(8)),
    *(lambda s, n=n: s.branch(ADA, f"c{n}", f"a_{n}", limit=9) for n in range(8)),
    *(lambda s, c=f"c{n}": s.every_turn(ADA, c, after=None, limit=9) for n in range(8)),
    lambda s: s.conversations(ADA, limit=50),
    lambda s: s.running(),
    lambda s: s.search(ADA, Query("word"), limit=9),
    lambda s: begin(s, "new", into="new"),
    lambda s: s.end(ADA, "turn_new", outcome("new")),
    lambda s: s.update(ADA, "c2", {"title": "Elephants"}, 1),
    lambda s: s.delete(ADA, "c0"),
    lambda s: s.ping(),
]


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize("page", range(1, 40, 3))
async def test_a_page_that_is_overwritten_is_no_bug_of_ours(path: Path, page: int) -> None:
    """Whatever is called, it works, or the database is said to be damaged."""
    async with SQLiteStore(path) as store:
        overwrite(path, page * PAGE, random.Random(page).randbytes(PAGE))
        outcomes = await asyncio.gather(*(call(store) for call in CALLS), return_exceptions=True)
    failures = [one for one in outcomes if isinstance(one, BaseException)]
    assert [one for one in failures if not isinstance(one, StoreError)] == []

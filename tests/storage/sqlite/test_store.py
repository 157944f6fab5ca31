"""Tests of what SQLite adds to the contract: one process, one file, and its troubles."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from storage.port import NotFoundError, UnavailableError
from storage.sqlite import conversations
from storage.sqlite.migrations import SchemaTooNewError, steps
from storage.sqlite.store import READERS, DatabaseInUseError, SQLiteStore
from tests.storage.nouns import ADA, BOB, begin, chain, claim, conversation, exchange, outcome
from tests.support.live import ROOT


async def on_writer(store: SQLiteStore, sql: str) -> Any:
    """Run a statement on the one connection that writes, to look at it or to trouble it."""
    return await store._writer.write(lambda c: c.execute(sql).fetchone())


async def on_reader(store: SQLiteStore, sql: str) -> Any:
    return await store._read(lambda c: c.execute(sql).fetchone())


def wal_commits(path: Path) -> int:
    """Count the commits in a write-ahead log: the frames that tell the database's size."""
    log = Path(f"{path}-wal").read_bytes()
    if not log:
        return 0
    (page,) = struct.unpack(">I", log[8:12])
    frames = range(32, len(log), 24 + page)
    return sum(struct.unpack(">I", log[start + 4 : start + 8]) != (0,) for start in frames)


async def test_what_is_acknowledged_survives_a_power_cut(store: SQLiteStore) -> None:
    assert await on_writer(store, "PRAGMA journal_mode") == ("wal",)
    assert await on_writer(store, "PRAGMA synchronous") == (2,)  # FULL
    assert await on_writer(store, "PRAGMA foreign_keys") == (1,)


async def test_readers_write_nothing_and_never_checkpoint(store: SQLiteStore) -> None:
    for _ in range(4):  # each of them in turn
        assert await on_reader(store, "PRAGMA query_only") == (1,)
        assert await on_reader(store, "PRAGMA wal_autocheckpoint") == (0,)


async def test_a_read_does_not_see_what_is_committed_meanwhile(store: SQLiteStore) -> None:
    await store.create(ADA, conversation("mine", title="Ada's"))
    loop = asyncio.get_running_loop()

    async def give_its_key_away() -> None:
        await store.delete(ADA, "mine")
        await store.create(BOB, conversation("his", title="Bob's"))

    def read(connection: sqlite3.Connection) -> Any:
        key = conversations.conversation_key(connection, ADA, "mine")
        asyncio.run_coroutine_threadsafe(give_its_key_away(), loop).result()
        found = connection.execute("SELECT title FROM conversations WHERE key = ?", (key,))
        return found.fetchone()

    assert await store._read(read) == ("Ada's",)
    assert (await store.conversation(BOB, "his")).title == "Bob's"


async def test_a_reader_goes_on_to_see_what_is_new(store: SQLiteStore) -> None:
    for number in range(3):
        for _ in range(READERS):
            with pytest.raises(NotFoundError):
                await store.conversation(ADA, f"c{number}")
        await store.create(ADA, conversation(f"c{number}"))
        for _ in range(READERS):
            assert (await store.conversation(ADA, f"c{number}")).id == f"c{number}"


async def test_what_is_asked_at_once_is_committed_together(store: SQLiteStore, path: Path) -> None:
    before = wal_commits(path)
    await asyncio.gather(*(begin(store, str(n), into=f"c{n}") for n in range(100)))
    assert wal_commits(path) - before <= 3


async def test_a_second_store_is_refused(store: SQLiteStore, path: Path) -> None:
    with pytest.raises(DatabaseInUseError):
        async with SQLiteStore(path):
            pass
    await store.create(ADA, conversation())


async def test_a_second_process_is_refused_until_the_first_has_closed(path: Path) -> None:
    code = (
        "import asyncio, sys; from storage.sqlite.store import SQLiteStore\n"
        "async def main():\n    async with SQLiteStore(sys.argv[1]): print('open')\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(path)]
    async with SQLiteStore(path):
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "DatabaseInUseError" in other.stderr
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (other.returncode, other.stdout) == (0, "open\n")


@pytest.mark.usefixtures("store")
async def test_the_same_file_by_another_name_is_refused(path: Path) -> None:
    other = path.with_name("other.db")
    other.symlink_to(path)
    with pytest.raises(DatabaseInUseError):
        async with SQLiteStore(other):
            pass


@pytest.mark.usefixtures("open_umask")
async def test_the_files_are_their_owner_s_alone(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await store.create(ADA, conversation())
        made = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert set(made) >= {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert set(made.values()) == {0o600}


async def test_a_later_release_s_file_is_refused_and_untouched(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE later (thing TEXT)")
    connection.execute(f"PRAGMA user_version = {len(steps()) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNewError):
        async with SQLiteStore(path):
            pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"Dear diary,\n" * 400, b"\0" * 8192, b"SQLite format 3\0!"])
async def test_what_is_no_database_is_refused_and_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError):
        async with SQLiteStore(path):
            pass
    assert path.read_bytes() == content


def connection_threads() -> int:
    return sum("connection" in thread.name for thread in threading.enumerate())


async def test_a_refused_file_is_let_go_of(path: Path) -> None:
    before = connection_threads()
    path.write_bytes(b"Dear diary,\n" * 400)
    with pytest.raises(sqlite3.DatabaseError):
        async with SQLiteStore(path):
            pass
    assert connection_threads() == before
    path.unlink()
    async with SQLiteStore(path) as store:
        await store.ping()


CALLS: list[Callable[[SQLiteStore], Awaitable[Any]]] = [
    lambda s: s.conversation(ADA, "c"),
    lambda s: s.conversations(ADA, limit=5),
    lambda s: s.create(ADA, conversation("new")),
    lambda s: s.running(),
    lambda s: s.ping(),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_a_closed_store_is_unavailable(
    path: Path, call: Callable[[SQLiteStore], Awaitable[Any]]
) -> None:
    async with SQLiteStore(path) as store:
        await store.create(ADA, conversation())
    with pytest.raises(UnavailableError):
        await call(store)


async def test_closing_twice_is_no_harm(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await store.close()
        await store.close()


async def test_closing_keeps_what_was_under_way(path: Path) -> None:
    async with SQLiteStore(path) as store:
        under_way = [
            asyncio.create_task(store.create(ADA, conversation(f"c{number}")))
            for number in range(50)
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*under_way)
    async with SQLiteStore(path) as store:
        assert len((await store.conversations(ADA, limit=100)).items) == 50


async def test_a_full_database_is_unavailable_and_recovers(store: SQLiteStore) -> None:
    (pages,) = await on_writer(store, "PRAGMA page_count")
    await on_writer(store, f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError, match="full"):
        await begin(store, content="x" * 100_000, claim=claim())
    assert await store.claimed(ADA, claim()) is None
    with pytest.raises(NotFoundError):
        await store.conversation(ADA, "c")

    await on_writer(store, "PRAGMA max_page_count = 1000000")
    await exchange(store, content="x" * 100_000)
    assert (await store.conversation(ADA, "c")).message_count == 2


async def test_a_read_only_database_is_unavailable_and_recovers(store: SQLiteStore) -> None:
    await on_writer(store, "PRAGMA query_only = ON")
    for call in (store.ping(), begin(store), store.create(ADA, conversation())):
        with pytest.raises(UnavailableError, match="readonly"):
            await call
    await store._writer._connection.run(lambda c: c.execute("PRAGMA query_only = OFF"))
    await begin(store)


async def test_a_locked_database_is_unavailable_and_recovers(
    store: SQLiteStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await on_busy_at_once(store)
    with pytest.raises(UnavailableError, match="locked"):
        await begin(store)
    assert (await store.conversations(ADA, limit=5)).items == ()  # reading goes on
    other.execute("ROLLBACK")
    await begin(store)
    other.close()


async def on_busy_at_once(store: SQLiteStore) -> None:
    await store._writer._connection.run(lambda c: c.execute("PRAGMA busy_timeout = 1"))


async def test_an_error_is_not_its_own_cause(store: SQLiteStore) -> None:
    """A program that walks up the causes would never end."""
    for call in (store.conversation, store.delete):
        with pytest.raises(NotFoundError) as caught:
            await call(ADA, "none")
        assert caught.value.__cause__ is not caught.value


async def test_deleting_leaves_no_row_in_any_table(store: SQLiteStore) -> None:
    await chain(store, ["1", "2"])
    await begin(store, "3", parent="a_1", claim=claim())
    await store.end(ADA, "turn_3", outcome("3"))
    await store.update(ADA, "c", {"title": "Elephants"}, 9)
    await store.delete(ADA, "c")

    left = await store._read(rows_of_every_table)
    bookkeeping = ("_config", "_data", "_idx")
    assert {t: n for t, n in left.items() if n and not t.endswith(bookkeeping)} == {
        "search_partitions": 2,
        "sqlite_sequence": 1,
        "spending": 1,  # what was used stays used
    }
    assert await on_writer(store, "PRAGMA integrity_check") == ("ok",)


def rows_of_every_table(connection: sqlite3.Connection) -> dict[str, int]:
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchall()
    counted = {}
    for (table,) in tables:
        (counted[table],) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return counted


async def test_a_deletion_that_was_cut_off_is_finished_at_the_next_start(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await chain(store, ["1", "2"])
        deleting = asyncio.create_task(store.delete(ADA, "c"))
        await asyncio.sleep(0)
        deleting.cancel()
        await store.ping()
        with pytest.raises(NotFoundError):
            await store.conversation(ADA, "c")
    async with SQLiteStore(path) as store:
        await store._bulk._purged()
        assert (await store._read(rows_of_every_table))["messages"] == 0

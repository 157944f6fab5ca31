"""Tests of the steps of the schema: forward, whole or not at all, and never backward."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.model import Order, Query
from storage.sqlite.migrations import SchemaTooNewError, migrate, steps
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA

Rows = list[tuple[str, str]]


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(path, isolation_level=None)
    yield opened
    opened.close()


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def schema(connection: sqlite3.Connection) -> Rows:
    return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def first_step_alone(connection: sqlite3.Connection) -> None:
    """Make a database as the first release left it, with a conversation of one message."""
    connection.executescript(steps()[0])
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "INSERT INTO conversations (owner, id, title, metadata, truncation, created_at, updated_at,"
        " head, message_count) VALUES ('ada', 'c', 'Old title', '{}', 'trim', 1, 1, 1, 1)"
    )
    connection.execute(
        "INSERT INTO messages (conversation, depth, tokens, encoding, role, created_at, owner, id,"
        " is_parts, content) VALUES (1, 1, 1, 'o200k_base', 'user', 1, 'ada', 'q', 0, 'elephant')"
    )


def test_a_fresh_file_gets_every_step(connection: sqlite3.Connection) -> None:
    migrate(connection)
    assert version(connection) == len(steps()) >= 1
    assert {"conversations", "messages", "turns"} <= {name for name, _ in schema(connection)}


def test_nothing_is_done_twice(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = schema(connection)
    migrate(connection)
    assert (version(connection), schema(connection)) == (len(steps()), before)


def test_an_old_file_ends_up_like_a_fresh_one(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    first_step_alone(connection)
    migrate(connection)
    fresh = sqlite3.connect(tmp_path / "fresh.db", isolation_level=None)
    migrate(fresh)
    assert (version(connection), schema(connection)) == (version(fresh), schema(fresh))
    fresh.close()


def test_a_later_release_s_file_is_refused(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {len(steps()) + 1}")
    with pytest.raises(SchemaTooNewError, match="later release"):
        migrate(connection)
    assert schema(connection) == []


def test_a_step_that_fails_leaves_the_file_as_it_was(
    connection: sqlite3.Connection, path: Path
) -> None:
    connection.execute("CREATE TABLE turns (mine TEXT)")  # in the way of the first step
    before = schema(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection)
    connection.close()
    again = sqlite3.connect(path)
    assert (version(again), schema(again)) == (0, before)
    again.close()


async def test_what_an_old_file_holds_is_there_and_can_be_found(
    connection: sqlite3.Connection, path: Path
) -> None:
    first_step_alone(connection)
    connection.close()
    async with SQLiteStore(path) as store:
        assert (await store.message(ADA, "c", "q")).content == "elephant"
        (hit,) = (await store.search(ADA, Query("elephant"), limit=5)).items
        assert hit.message is not None
        assert hit.message.id == "q"
        assert len((await store.conversations(ADA, limit=5, q="Old")).items) == 1


async def test_what_calls_say_in_an_old_file_is_found_and_forgotten(
    connection: sqlite3.Connection, path: Path
) -> None:
    first_step_alone(connection)
    said = (
        '[{"type": "text", "text": "Looking"},'
        ' {"type": "function", "function": {"name": "zebra", "arguments": "{}"}}]'
    )
    connection.execute("UPDATE messages SET is_parts = 1, content = ?", (said,))
    connection.close()
    async with SQLiteStore(path) as store:
        for words in ("zebra", "Looking"):
            assert len((await store.search(ADA, Query(words), limit=5)).items) == 1
        await store.delete(ADA, "c")
        assert not (await store.search(ADA, Query("zebra"), limit=5)).items
    with closing(sqlite3.connect(path)) as opened:
        for table in ("message_words", "message_pieces"):
            opened.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")
            assert opened.execute(f"SELECT count(*) FROM {table}_docsize").fetchone() == (0,)


async def test_an_old_file_knows_when_it_was_last_active(
    connection: sqlite3.Connection, path: Path
) -> None:
    first_step_alone(connection)
    connection.execute("UPDATE conversations SET updated_at = 7")
    connection.execute(
        "INSERT INTO conversations (owner, id, title, metadata, truncation, created_at, updated_at)"
        " VALUES ('ada', 'empty', '', '{}', 'trim', 2, 9)"
    )
    connection.close()
    async with SQLiteStore(path) as store:
        listed = (await store.conversations(ADA, limit=5, order=Order.ACTIVITY)).items
    told = [(one.id, one.last_message_at, one.pinned) for one in listed]
    assert told == [("c", 7, False), ("empty", None, False)]


@pytest.mark.parametrize("behind", ["", "AND (c.pinned, c.active_at, c.key) < (0, 5, 7)"])
def test_a_page_by_activity_is_a_walk_along_an_index(
    connection: sqlite3.Connection, behind: str
) -> None:
    migrate(connection)
    plan = connection.execute(
        f"EXPLAIN QUERY PLAN SELECT * FROM conversations c WHERE owner = 'ada' {behind} "
        "ORDER BY c.pinned DESC, c.active_at DESC, c.key DESC LIMIT 20"
    ).fetchall()
    (step,) = [row[3] for row in plan]
    assert "conversations_active" in step
    assert ("(pinned,active_at)<" in step) == bool(behind)


async def test_what_an_old_file_holds_can_be_changed_and_deleted(
    connection: sqlite3.Connection, path: Path
) -> None:
    first_step_alone(connection)
    connection.close()
    async with SQLiteStore(path) as store:
        await store.update(ADA, "c", {"title": "New title"}, 9)
        await store.delete(ADA, "c")
        assert (await store.search(ADA, Query("elephant"), limit=5)).items == ()
        assert (await store.conversations(ADA, limit=5)).items == ()

"""Tests of the group commit: writes that wait together share a commit, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from storage.port import BusyError, UnavailableError
from storage.sqlite.group_commit import GroupCommit, WriteConnection


@pytest.fixture
async def connection(path: Path) -> AsyncIterator[WriteConnection]:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    opened = WriteConnection(connect, iter_chunk_size=64)
    await opened
    await opened.run(lambda c: c.execute("CREATE TABLE numbers (n INTEGER UNIQUE, pad BLOB)"))
    yield opened
    await opened.close()


@pytest.fixture
async def commits(connection: WriteConnection) -> list[str]:
    """Every statement that SQLite itself says it has run."""
    told: list[str] = []
    await connection.run(lambda c: c.set_trace_callback(told.append))
    return told


@pytest.fixture
async def writer(connection: WriteConnection) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(connection)
    yield group
    await group.close()


def put(n: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers (n) VALUES (?)", (n,))
        return n

    return work


def put_and_fail(n: int, error: Exception) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        put(n)(connection)
        raise error

    return work


def kept(path: Path) -> list[int]:
    """Read as another program would."""
    other = sqlite3.connect(path)
    try:
        return [n for (n,) in other.execute("SELECT n FROM numbers ORDER BY rowid")]
    finally:
        other.close()


async def test_writes_that_wait_together_share_a_commit(
    writer: GroupCommit, commits: list[str], path: Path
) -> None:
    assert await asyncio.gather(*(writer.write(put(n)) for n in range(200))) == list(range(200))
    assert commits.count("COMMIT") <= 2
    assert kept(path) == list(range(200))


async def test_writes_that_arrive_during_a_commit_share_the_next_one(
    writer: GroupCommit, commits: list[str], path: Path
) -> None:
    async def write_three(start: int) -> None:
        for n in range(start, start + 3):
            await writer.write(put(n))

    await asyncio.gather(*(write_three(10 * start) for start in range(50)))
    assert commits.count("COMMIT") <= 6
    assert len(kept(path)) == 150


async def test_other_writes_come_before_each_step_of_something_long(
    writer: GroupCommit, commits: list[str], path: Path
) -> None:
    async def step_then_write(n: int) -> None:
        await writer.step(put(n))
        await writer.write(put(10 * n))

    steps = [writer.step(put(2)), writer.step(put(3)), writer.step(put(4))]
    await asyncio.gather(step_then_write(1), *steps, writer.write(put(5)), writer.write(put(6)))
    assert kept(path) == [5, 6, 1, 2, 10, 3, 4]  # 10 was asked for while 2 was kept
    assert commits.count("COMMIT") == 6


async def test_steps_of_many_take_turns(writer: GroupCommit, path: Path) -> None:
    async def three(start: int) -> None:
        for n in range(start, start + 3):
            await writer.step(put(n))

    await asyncio.gather(three(10), three(20))
    assert kept(path) == [10, 20, 11, 21, 12, 22]


async def test_steps_that_wait_are_counted_and_kept_when_closing(
    connection: WriteConnection, path: Path
) -> None:
    group = GroupCommit(connection)
    waiting = [asyncio.create_task(group.step(put(n))) for n in range(5)]
    await asyncio.sleep(0)
    assert group.waiting == 5
    await group.close()
    assert await asyncio.gather(*waiting) == list(range(5))
    with pytest.raises(UnavailableError):
        await group.step(put(99))
    assert kept(path) == list(range(5))


async def test_a_result_comes_after_its_commit(writer: GroupCommit, path: Path) -> None:
    for n in range(5):
        await writer.write(put(n))
        assert kept(path)[-1] == n


@pytest.mark.parametrize("error", [BusyError("busy"), ValueError("a bug"), ZeroDivisionError()])
async def test_one_that_fails_harms_no_other(
    writer: GroupCommit, commits: list[str], path: Path, error: Exception
) -> None:
    works = [put(1), put_and_fail(2, error), put(1), put(3)]
    results = await asyncio.gather(*map(writer.write, works), return_exceptions=True)
    assert results[0] == 1
    assert results[1] is error
    assert isinstance(results[2], sqlite3.IntegrityError)
    assert results[3] == 3
    assert kept(path) == [1, 3]
    assert commits.count("COMMIT") <= 2


async def test_a_cancelled_callers_write_is_kept(writer: GroupCommit, path: Path) -> None:
    leaving = [asyncio.create_task(writer.write(put(n))) for n in range(3)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    assert await writer.write(put(9)) == 9
    assert kept(path) == [0, 1, 2, 9]
    assert all(task.cancelled() for task in leaving)


async def test_closing_commits_what_waits(connection: WriteConnection, path: Path) -> None:
    group = GroupCommit(connection)
    waiting = [asyncio.create_task(group.write(put(n))) for n in range(20)]
    await asyncio.sleep(0)
    await group.close()
    assert await asyncio.gather(*waiting) == list(range(20))
    with pytest.raises(UnavailableError):
        await group.write(put(99))
    assert kept(path) == list(range(20))


async def test_a_full_disk_fails_what_did_not_fit_and_nothing_else(
    writer: GroupCommit, connection: WriteConnection, path: Path
) -> None:
    def put_much(c: sqlite3.Connection) -> None:
        c.execute("INSERT INTO numbers VALUES (2, zeroblob(1000000))")

    await connection.run(lambda c: c.execute("PRAGMA max_page_count = 20"))
    results = await asyncio.gather(
        writer.write(put(1)), writer.write(put_much), writer.write(put(3)), return_exceptions=True
    )
    assert isinstance(results[1], UnavailableError)
    answered = [n for n in results if isinstance(n, int)]
    assert kept(path) == answered

    await connection.run(lambda c: c.execute("PRAGMA max_page_count = 100000"))
    await writer.write(put_much)
    assert kept(path) == [*answered, 2]


async def test_a_commit_that_fails_fails_all_and_keeps_nothing(
    writer: GroupCommit, connection: WriteConnection, path: Path
) -> None:
    """A deferred foreign key is checked by COMMIT alone, which then fails for real."""
    await connection.run(lambda c: c.execute("PRAGMA foreign_keys = ON"))
    await connection.run(
        lambda c: c.execute(
            "CREATE TABLE names (n INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)"
        )
    )
    results = await asyncio.gather(
        writer.write(put(1)),
        writer.write(lambda c: c.execute("INSERT INTO names VALUES (7)").rowcount),
        return_exceptions=True,
    )
    assert all(isinstance(result, Exception) for result in results)
    assert kept(path) == []
    assert await writer.write(put(2)) == 2


async def test_writes_that_wait_are_counted(writer: GroupCommit) -> None:
    tasks = [asyncio.create_task(writer.write(put(n))) for n in range(3)]
    await asyncio.sleep(0)
    assert writer.waiting == 3
    await asyncio.gather(*tasks)
    assert writer.waiting == 0

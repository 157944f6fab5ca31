"""Tests of backup and restore, from the command line, on servers that run and on none."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.keys import KeyFile
from storage.model import Status
from storage.sqlite.migrations import steps
from storage.sqlite.opening import Lock
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, begin, exchange
from tests.support.forked import fork
from tests.support.live import NAME, Fork, Process

Told = tuple[int, str, str]


async def run(folder: Path, *words: str) -> Told:
    """Run the command as a user types it: exit code, output, errors."""
    process = await fork(*words, folder=folder, env={"PATH": os.environ["PATH"]})
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def refused(folder: Path, *words: str) -> str:
    """Return the one line that says why it cannot be done."""
    code, output, errors = await run(folder, *words)
    assert (code, output) == (2, "")
    assert errors.startswith("trialogue: ")
    assert errors.count("\n") == 1, errors
    return errors


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


@pytest.fixture
async def kept(tmp_path: Path) -> Path:
    """A database of one exchange, and nobody who has it open."""
    async with SQLiteStore(tmp_path / NAME) as store:
        await exchange(store)
    return tmp_path / NAME


class Askers:
    """Eight who ask on and on; `acknowledged` has the turns whose ends they heard, in order."""

    def __init__(self, server: Process) -> None:
        self._server = server
        self.acknowledged: list[str] = []

    async def __aenter__(self) -> Askers:
        self._session = aiohttp.ClientSession(self._server.http)
        self._tasks = [asyncio.create_task(self._ask(who)) for who in range(8)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._session.close()

    async def more(self, count: int) -> None:
        """Wait for so many further turns."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:
            done, _ = await asyncio.wait(self._tasks, timeout=0.01)
            for failed in done:
                failed.result()

    async def _ask(self, who: int) -> None:
        for number in range(1_000_000):
            question = {"prompt": f"Question {number} of {who}"}
            url = f"/ask/c{who}-{number % 7}"
            async with self._session.post(url, json=question) as answer:
                turn = await answer.json()
                assert answer.status == 200, turn
                self.acknowledged.append(turn["id"])


async def test_a_copy_under_load_has_all_that_was_acknowledged_and_can_be_restored(
    tmp_path: Path,
) -> None:
    copies: dict[str, list[str]] = {}
    async with Fork(tmp_path) as server:
        async with Askers(server) as askers:
            for name in ("first.db", "second.db"):
                await askers.more(100)
                copies[name] = list(askers.acknowledged)
                code, output, errors = await run(tmp_path, "backup", name)
                assert (code, errors) == (0, "")
                assert "checked" in output
        assert len(askers.acknowledged) > len(copies["second.db"])  # asked while it was copied
        for name, before in copies.items():
            _holds(tmp_path / name, before)
            assert {one for one in names(tmp_path) if name in one} == {name}
        assert "has it open" in await refused(tmp_path, "restore", "first.db")
        server.terminate()
        assert await server.ended() == 0
    await _restored(tmp_path, copies["first.db"], askers.acknowledged)


def _holds(copy: Path, turns: list[str]) -> None:
    """Check that a copy is sound, is its owner's alone, and has these turns whole."""
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    whole = "SELECT t.id FROM turns t JOIN messages m ON m.key = t.answer WHERE t.status = ?"
    with closing(sqlite3.connect(copy)) as connection:
        found = {turn for (turn,) in connection.execute(whole, (Status.COMPLETED,))}
    assert set(turns) <= found


async def _restored(folder: Path, before: list[str], everything: list[str]) -> None:
    """Go back to a copy; what was there before it is beside it, and forward again is possible."""
    code, output, errors = await run(folder, "restore", "first.db")
    assert (code, errors) == (0, "")
    (aside,) = folder.glob(f"{NAME}.before-restore-*")
    assert str(aside) in output
    async with Fork(folder) as server, aiohttp.ClientSession(server.http) as session:
        for turn in before[:5] + before[-5:]:
            async with session.get(f"/turns/{turn}") as answer:
                assert (await answer.json())["status"] == "completed"
        async with session.get(f"/turns/{everything[-1]}") as answer:
            assert answer.status == 404
        async with session.post("/ask/c0-0", json={"prompt": "Go on"}) as answer:
            assert (await answer.json())["status"] == "completed"
    _holds(aside, everything)


@pytest.mark.usefixtures("kept")
async def test_a_copy_of_a_database_that_nobody_has_open(tmp_path: Path) -> None:
    code, output, _ = await run(tmp_path, "backup", "copy.db")
    assert code == 0
    assert "1 conversations, 2 messages" in output
    assert rows(tmp_path / "copy.db", "SELECT count(*) FROM messages") == [(2,)]


async def test_what_a_crash_left_in_the_log_is_copied_too(tmp_path: Path) -> None:
    async with Fork(tmp_path) as server, aiohttp.ClientSession(server.http) as session:
        async with session.post("/ask/c", json={"prompt": "Hello"}) as answer:
            assert answer.status == 200
        server.kill()
        await server.ended()
    log = Path(f"{tmp_path / NAME}-wal").read_bytes()
    assert log
    database = (tmp_path / NAME).read_bytes()
    assert (await run(tmp_path, "backup", "copy.db"))[0] == 0
    assert rows(tmp_path / "copy.db", "SELECT count(*) FROM messages") == [(2,)]
    assert Path(f"{tmp_path / NAME}-wal").read_bytes() == log  # reading changes nothing
    assert (tmp_path / NAME).read_bytes() == database


@pytest.mark.usefixtures("kept")
async def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("mine")
    assert "--force" in await refused(tmp_path, "backup", "copy.db")
    assert copy.read_text() == "mine"
    assert (await run(tmp_path, "backup", "copy.db", "--force"))[0] == 0
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert {one for one in names(tmp_path) if one.startswith(".")} == set()


@pytest.mark.usefixtures("kept")
async def test_what_cannot_be_copied_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(NAME)
    (tmp_path / "open.db-wal").touch()
    before = names(tmp_path)
    for words, told in {
        ("none/copy.db",): "No such file",
        ("folder",): "is there already",
        ("folder", "--force"): "is there already",
        ("link.db", "--force"): "is the database itself",
        (NAME, "--force"): "is the database itself",
        ("open.db",): "is in use",
        ("copy.db", "--database", "sqlite:///none.db"): "there is no database",
    }.items():
        assert told in await refused(tmp_path, "backup", *words), words
    assert names(tmp_path) - {f"{NAME}-wal", f"{NAME}-shm"} == before


async def test_a_damaged_database_is_not_copied(tmp_path: Path, kept: Path) -> None:
    content = bytearray(kept.read_bytes())
    content[20 * 4096 : 24 * 4096] = b"\xff" * 4 * 4096
    kept.write_bytes(content)
    assert "it is damaged" in await refused(tmp_path, "backup", "copy.db")
    assert not {one for one in names(tmp_path) if "copy.db" in one}
    assert kept.read_bytes() == content


async def test_keys_go_along_and_no_revoked_one_comes_back(tmp_path: Path, kept: Path) -> None:
    keys = kept.with_suffix(".keys")
    _, output, _ = await run(tmp_path, "keys", "create", "ada")
    key_id = output.partition("kept as ")[2].split()[0]
    _, output, _ = await run(tmp_path, "backup", "copy.db")
    copied = tmp_path / "copy.db.keys"
    assert str(copied) in output
    assert copied.read_bytes() == keys.read_bytes()
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600

    await run(tmp_path, "keys", "revoke", key_id)
    _, output, _ = await run(tmp_path, "restore", "copy.db")
    assert f"{keys}: left as it is" in output
    assert KeyFile(keys).keys()[0].revoked_at is not None

    keys.unlink()
    _, output, _ = await run(tmp_path, "restore", "copy.db", "--database", "sqlite:///new.db")
    assert KeyFile(tmp_path / "new.keys").keys()[0].owner == "ada"


async def test_what_cannot_be_restored_is_one_line_and_changes_nothing(
    tmp_path: Path, kept: Path
) -> None:
    content = kept.read_bytes()
    torn = bytearray(content)
    torn[20 * 4096 : 24 * 4096] = b"\xff" * 4 * 4096
    (tmp_path / "torn.db").write_bytes(torn)
    (tmp_path / "short.db").write_bytes(content[: len(content) // 2])
    (tmp_path / "diary").write_bytes(b"Dear diary,\n" * 400)
    (tmp_path / "empty").touch()
    for name, sql in {
        "other.db": "",
        "later.db": f"PRAGMA user_version = {len(steps()) + 1}",
    }.items():
        with closing(sqlite3.connect(tmp_path / name)) as made:
            made.executescript(f"CREATE TABLE thing (name TEXT); {sql}")
    before = names(tmp_path)
    for name, told in {
        "torn.db": "it is damaged",
        "short.db": "it is damaged",
        "diary": "not a database",
        "empty": "none of ours",
        "other.db": "none of ours",
        "later.db": "start a later release",
        "missing": "no such file",
        NAME: "is the database itself",
    }.items():
        assert told in await refused(tmp_path, "restore", name), name
    assert names(tmp_path) == before
    assert kept.read_bytes() == content


async def test_a_damaged_database_moves_aside_with_its_log(tmp_path: Path, kept: Path) -> None:
    assert (await run(tmp_path, "backup", "copy.db"))[0] == 0
    log = Path(f"{kept}-wal")
    damaged, logged = b"\xff" * 8192, b"frames of a log"
    kept.write_bytes(damaged)
    log.write_bytes(logged)
    code, output, _ = await run(tmp_path, "restore", "copy.db")
    assert code == 0
    aside = sorted(tmp_path.glob(f"{NAME}.before-restore-*"))
    assert [one.read_bytes() for one in aside] == [damaged, logged]
    assert aside[1].name == f"{aside[0].name}-wal"
    assert all(str(one) in output for one in aside)
    assert not log.exists()
    async with SQLiteStore(kept) as store:
        assert len((await store.conversations(ADA, limit=5)).items) == 1
    assert aside[0].read_bytes() == damaged


async def test_a_turn_that_ran_when_the_copy_was_made_is_interrupted(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / NAME) as store:
        await begin(store)
        assert (await run(tmp_path, "backup", "copy.db"))[0] == 0
    assert (await run(tmp_path, "restore", "copy.db"))[0] == 0
    async with Fork(tmp_path):
        pass
    assert rows(tmp_path / NAME, "SELECT status FROM turns") == [("interrupted",)]


async def test_it_is_restored_where_there_is_none(tmp_path: Path, kept: Path) -> None:
    assert (await run(tmp_path, "backup", "copy.db"))[0] == 0
    kept.rename(tmp_path / "elsewhere.db")
    Path(f"{kept}-wal").write_bytes(b"of the one that was lost")
    assert (await run(tmp_path, "restore", "copy.db"))[0] == 0
    (lost,) = tmp_path.glob(f"{NAME}.before-restore-*-wal")
    assert lost.read_bytes() == b"of the one that was lost"
    assert rows(kept, "PRAGMA integrity_check") == [("ok",)]


async def test_a_database_in_use_is_not_restored(tmp_path: Path, kept: Path) -> None:
    assert (await run(tmp_path, "backup", "copy.db"))[0] == 0
    content = kept.read_bytes()
    with Lock(kept):
        assert "a server has it open" in await refused(tmp_path, "restore", "copy.db")
    assert kept.read_bytes() == content


async def test_help_has_examples(tmp_path: Path) -> None:
    for command in ("backup", "restore"):
        code, output, _ = await run(tmp_path, command, "--help")
        assert code == 0
        assert f"  trialogue {command} /backups/monday.db" in output

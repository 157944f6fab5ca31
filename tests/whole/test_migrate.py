"""`trialogue migrate`: all history to PostgreSQL and back, cut off anywhere, refused where it may not."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.commands import migrate
from storage.keys import KeyFile
from storage.migration.postgres import PostgresTarget
from storage.migration.relations import Relation, Row
from storage.migration.sqlite import SQLiteHistory, SQLiteTarget
from storage.postgres.store import PostgresStore
from storage.sqlite.store import SQLiteStore
from tests.storage.migration.filled import fill, keep_keys
from tests.storage.nouns import ADA, exchange, whole
from tests.support.forked import Forked, fork
from tests.support.live import Fork
from tests.support.postgres import PostgresServer, bouncer_before, fetched

#: So many messages take a while to be migrated.
MANY = 12_000


async def begun(folder: Path, *words: str) -> Forked:
    return await fork("migrate", *words, folder=folder, env={"PATH": os.environ["PATH"]})


async def run(folder: Path, *words: str) -> tuple[int | None, str, str]:
    """Run the command as a user types it: exit code, output, errors."""
    process = await begun(folder, *words)
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def refused(folder: Path, *words: str) -> str:
    """Return the one line that says why it cannot be done, and what to do."""
    code, _, errors = await run(folder, *words)
    assert code in (1, 2)
    assert errors.startswith("trialogue: ")
    assert errors.count("\n") == 1, errors
    return errors


@pytest.fixture
async def kept(tmp_path: Path) -> str:
    """A SQLite file with something of everything."""
    async with SQLiteStore(tmp_path / "from.db") as store:
        await fill(store)
    keep_keys(KeyFile(tmp_path / "from.keys"))
    return "sqlite:///from.db"


@pytest.fixture
async def much(tmp_path: Path) -> str:
    """A SQLite file that is not migrated in a moment."""
    async with SQLiteStore(tmp_path / "from.db") as store:
        await store.put(ADA, *whole("long", MANY), [])
    return "sqlite:///from.db"


async def test_what_is_read_over_rest_is_the_same_there_and_back(
    tmp_path: Path, empty_postgres: str
) -> None:
    home, back = "sqlite:///from.db", "sqlite:///back.db"
    async with served(tmp_path, home) as server:
        await _talk(server.http)
        before = await _read(server.http)
        assert "a server has it open" in await refused(tmp_path, home, empty_postgres)
    code, output, errors = await run(tmp_path, home, empty_postgres)
    assert (code, errors) == (0, "")
    assert f"{empty_postgres} has all of it" in output
    async with served(tmp_path, empty_postgres) as server:
        assert await _read(server.http) == before
        assert "a server uses it" in await refused(tmp_path, empty_postgres, back)
    code, _, errors = await run(tmp_path, empty_postgres, back)
    assert (code, errors) == (0, "")
    async with served(tmp_path, back) as server:
        assert await _read(server.http) == before


def served(folder: Path, database: str) -> Fork:
    return Fork(folder, env={"TRIALOGUE_DATABASE": database, "TRIALOGUE_ELIZA_DELAY": "0"})


async def _talk(http: str) -> None:
    """Make conversations, branches, responses, completions."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def post(path: str, **body: Any) -> Any:
            async with session.post(f"{http}{path}", json=body) as answer:
                return await answer.json()

        for name in ("a", "b", "c"):
            first = await post(f"/ask/{name}", prompt=f"Hello, I am {name} 日本")
            await post(f"/ask/{name}", prompt="And now?")
            await post(f"/ask/{name}", prompt="Or?", parent_id=first["answer_id"])
        ask = {"model": "eliza", "input": "I dream."}
        hidden = await post("/v1/responses", **ask)
        await post("/v1/responses", previous_response_id=hidden["id"], **ask)
        said = [{"role": "user", "content": "Hi"}]
        await post(
            "/v1/chat/completions", model="eliza", messages=said, store=True, metadata={"a": "b"}
        )


async def _read(http: str) -> dict[str, bytes]:
    """Read all that there is by GET."""
    found: dict[str, bytes] = {}
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> Any:
            async with session.get(f"{http}{path}") as answer:
                assert answer.status == 200, path
                found[path] = await answer.read()
                return await answer.json()

        for order in ("created", "activity"):
            listed = await get(f"/conversations?order={order}")
        for one in listed["data"]:
            await get(f"/conversations/{one['id']}")
            for what in ("messages", "branch"):
                await get(f"/conversations/{one['id']}/{what}")
            messages = (await get(f"/conversations/{one['id']}/messages"))["data"]
            for turn in {message["turn_id"] for message in messages}:
                await get(f"/turns/{turn}")
        await get("/conversations/export?format=json")
        for one in (await get("/v1/chat/completions"))["data"]:
            await get(f"/v1/chat/completions/{one['id']}")
            await get(f"/v1/chat/completions/{one['id']}/messages")
        await get("/conversations/search?q=hello")
    return found


async def _killed(folder: Path, source: str, target: str, some: Callable[[], Awaitable[int]]) -> None:
    """Kill a migration that has brought some messages."""
    process = await begun(folder, source, target)
    while not await some():
        assert process.returncode is None
    process.kill()
    await process.wait()
    assert 0 < await some() < MANY


async def test_a_migration_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, much: str, empty_postgres: str
) -> None:
    async def there() -> int:
        (found,) = await fetched(empty_postgres, "SELECT to_regclass('moving') IS NOT NULL")
        if not found[0]:
            return 0
        ((number,),) = await fetched(empty_postgres, "SELECT count(*) FROM messages")
        return int(str(number))

    async def back() -> int:
        for half in tmp_path.glob(".back.db.*.migrating"):
            with closing(sqlite3.connect(half)) as connection:
                try:
                    return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
                except sqlite3.OperationalError:
                    return 0
        return 0

    await _killed(tmp_path, much, empty_postgres, there)
    for words in (("serve",), ("keys", "list")):
        process = await fork(
            *words, folder=tmp_path, env={"TRIALOGUE_DATABASE": empty_postgres}
        )
        _, errors = await process.communicate()
        assert b"history is being migrated to it" in errors
    brought = await there()
    code, output, told = await run(tmp_path, much, empty_postgres)
    assert (code, told) == (0, "")
    assert await there() == MANY > brought
    assert "has all of it already" in (await run(tmp_path, much, empty_postgres))[1]
    await _killed(tmp_path, empty_postgres, "sqlite:///back.db", back)
    assert not (tmp_path / "back.db").exists()
    code, again, told = await run(tmp_path, empty_postgres, "sqlite:///back.db")
    assert (code, told) == (0, "")
    assert _table(again) == _table(output)
    assert list(tmp_path.glob(".*")) == []


def _table(output: str) -> str:
    return output.rpartition("\n")[0].rpartition("\n")[0]


class CutOff(Exception):
    """A step was not taken."""


class Failing:
    """Counts down to the step before, or behind, which it is cut off."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise CutOff


class FailingPostgres(PostgresTarget):
    failing: Failing

    async def write(self, relation: Relation, rows: list[Row]) -> None:
        self.failing.step()
        await super().write(relation, rows)

    async def finish(self, last_turn_key: int) -> None:
        self.failing.step()
        await super().finish(last_turn_key)
        self.failing.step()

    async def done(self) -> None:
        self.failing.step()
        await super().done()
        self.failing.step()


class FailingSQLite(SQLiteTarget):
    failing: Failing

    async def write(self, relation: Relation, rows: list[Row]) -> None:
        self.failing.step()
        await super().write(relation, rows)

    async def finish(self, last_turn_key: int) -> None:
        self.failing.step()
        await super().finish(last_turn_key)
        self.failing.step()

    async def done(self) -> None:
        self.failing.step()
        await super().done()
        self.failing.step()


async def test_it_may_be_cut_off_at_any_step(
    tmp_path: Path, kept: str, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    first = None
    for at in range(1, 100):
        url, back = postgres.fresh(), tmp_path / f"back{at}.db"
        keys = KeyFile(back.with_suffix(".keys"))
        there, home = FailingPostgres(url), FailingSQLite(back, keys)
        there.failing, home.failing = Failing(at), Failing(at)
        whole_way = await _cut_off(tmp_path, there)
        assert await migrate.migrate(f"{tmp_path}/from.db", url, anew=False) == 0
        whole_back = await _cut_off_back(url, home)
        assert await migrate.migrate(url, str(back), anew=False) == 0
        capsys.readouterr()
        async with SQLiteHistory(back, keys) as found:
            all_of_it = [
                row async for rows in _everything(found) for row in rows
            ]
        first = first or all_of_it
        assert all_of_it == first
        if whole_way and whole_back:
            return
    raise AssertionError("it has more steps than that")

"""`trialogue migrate`: all history to PostgreSQL and back, cut off anywhere, refused in use."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.commands import migrate
from storage.keys import KeyFile
from storage.migration.postgres import PostgresHistory, PostgresTarget
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
        responses = await _talk(server.http)
        before = await _read(server.http, responses)
        assert "a server has it open" in await refused(tmp_path, home, empty_postgres)
    code, output, errors = await run(tmp_path, home, empty_postgres)
    assert (code, errors) == (0, "")
    assert f"{empty_postgres} has all of it" in output
    async with served(tmp_path, empty_postgres) as server:
        assert await _read(server.http, responses) == before
        assert "a server uses it" in await refused(tmp_path, empty_postgres, back)
    code, _, errors = await run(tmp_path, empty_postgres, back)
    assert (code, errors) == (0, "")
    async with served(tmp_path, back) as server:
        assert await _read(server.http, responses) == before


def served(folder: Path, database: str) -> Fork:
    return Fork(folder, env={"TRIALOGUE_DATABASE": database, "TRIALOGUE_ELIZA_DELAY": "0"})


async def _talk(http: str) -> list[str]:
    """Make conversations, branches, completions, and responses, of which the ids are returned."""
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
        second = await post("/v1/responses", previous_response_id=hidden["id"], **ask)
        said = [{"role": "user", "content": "Hi"}]
        await post(
            "/v1/chat/completions", model="eliza", messages=said, store=True, metadata={"a": "b"}
        )
    return [hidden["id"], second["id"]]


async def _read(http: str, responses: Sequence[str]) -> dict[str, bytes]:
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
            messages = (await get(f"/conversations/{one['id']}/messages"))["data"]
            for turn in {message["turn_id"] for message in messages}:
                await get(f"/turns/{turn}")
        for one in responses:
            await get(f"/v1/responses/{one}")
            await get(f"/v1/responses/{one}/input_items")
        await get("/export?format=json")
        for one in (await get("/v1/chat/completions"))["data"]:
            await get(f"/v1/chat/completions/{one['id']}")
            await get(f"/v1/chat/completions/{one['id']}/messages")
        await get("/search?q=hello")
    return found


async def _killed(
    folder: Path, source: str, target: str, some: Callable[[], Awaitable[int]]
) -> None:
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
        process = await fork(*words, folder=tmp_path, env={"TRIALOGUE_DATABASE": empty_postgres})
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


class CutOffError(Exception):
    """A step was not taken."""


class Failing:
    """A target that is cut off before a step of it."""

    left = 0

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise CutOffError

    async def write(self, relation: Relation, rows: Sequence[Row]) -> None:
        self._step()
        await super().write(relation, rows)  # type: ignore[misc]

    async def finish(self, last_turn_key: int) -> None:
        self._step()
        await super().finish(last_turn_key)  # type: ignore[misc]
        self._step()

    async def done(self) -> None:
        await super().done()  # type: ignore[misc]
        self._step()


class FailingPostgres(Failing, PostgresTarget): ...


class FailingSQLite(Failing, SQLiteTarget): ...


async def cut_off(
    source: SQLiteHistory | PostgresHistory, target: FailingPostgres | FailingSQLite, at: int
) -> bool:
    """Migrate until a step is not taken; False where there are not so many."""
    target.left = at
    async with source, target:
        try:
            await migrate.migrated(source, target, anew=False)
        except CutOffError:
            return True
    return False


async def test_it_may_be_cut_off_before_any_step(
    tmp_path: Path, kept: str, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path, keys = tmp_path / "from.db", KeyFile(tmp_path / "from.keys")
    url, tables = "", set()
    for at in range(1, 100):
        url = postgres.fresh()
        more = await cut_off(SQLiteHistory(path, keys), FailingPostgres(url), at)
        assert await migrate.migrate(str(path), url, anew=False) == 0
        tables.add(_table(capsys.readouterr().out)[-500:])
        if not more:
            break
    assert at > 12
    for at in range(1, 100):
        back, its_keys = tmp_path / f"{at}.db", KeyFile(tmp_path / f"{at}.keys")
        more = await cut_off(PostgresHistory(url), FailingSQLite(back, its_keys), at)
        assert await migrate.migrate(url, str(back), anew=False) == 0
        tables.add(_table(capsys.readouterr().out)[-500:])
        assert its_keys.keys() == keys.keys()
        if not more:
            break
    assert at > 12
    assert len(tables) == 1  # the same digests each time
    assert list(tmp_path.glob(".*")) == []


async def test_what_stands_in_its_way_is_told(
    tmp_path: Path, kept: str, empty_postgres: str
) -> None:
    both = (kept, empty_postgres)
    assert "one kind" in await refused(tmp_path, kept, "sqlite:///other.db")
    assert "no such file" in await refused(tmp_path, "nowhere.db", empty_postgres)
    assert "no such folder" in await refused(tmp_path, empty_postgres, "nowhere/x.db")
    assert "must be" in await refused(tmp_path, "mysql://x", empty_postgres)
    away = empty_postgres.replace(empty_postgres.rpartition(":")[2].partition("/")[0], "1")
    assert "run it again" in await refused(tmp_path, kept, away)
    async with PostgresStore(empty_postgres) as store:
        await exchange(store)
    assert "other history already" in await refused(tmp_path, *both)
    assert "other history already" in await refused(tmp_path, *both, "--anew")
    assert await fetched(empty_postgres, "SELECT id FROM turns") == [("turn_1",)]
    (tmp_path / "x.keys").write_bytes((tmp_path / "from.keys").read_bytes())
    assert "there are keys already" in await refused(tmp_path, empty_postgres, "x.db")
    other = "sqlite:///other.db"
    async with SQLiteStore(tmp_path / "other.db") as file:
        await exchange(file, "2")
    assert "other history already" in await refused(tmp_path, empty_postgres, other)


async def test_half_of_another_is_thrown_away_only_when_that_is_said(
    tmp_path: Path, kept: str, empty_postgres: str
) -> None:
    async with SQLiteStore(tmp_path / "other.db") as store:
        await exchange(store)
    assert await cut_off(
        SQLiteHistory(tmp_path / "other.db", KeyFile(tmp_path / "other.keys")),
        FailingPostgres(empty_postgres),
        3,
    )
    assert "--anew" in await refused(tmp_path, kept, empty_postgres)
    code, _, errors = await run(tmp_path, kept, empty_postgres, "--anew")
    assert (code, errors) == (0, "")


async def test_a_source_that_was_written_to_between_two_runs_is_found_out(
    tmp_path: Path, kept: str, empty_postgres: str
) -> None:
    path, keys = tmp_path / "from.db", KeyFile(tmp_path / "from.keys")
    assert await cut_off(SQLiteHistory(path, keys), FailingPostgres(empty_postgres), 9)
    async with SQLiteStore(path) as store:
        await store.update(ADA, "c", {"title": "Another"}, 20)
    code, output, errors = await run(tmp_path, kept, empty_postgres)
    assert code == 1
    assert "but" in next(line for line in output.splitlines() if "conversations" in line)
    assert "--anew" in errors
    code, _, errors = await run(tmp_path, kept, empty_postgres, "--anew")
    assert (code, errors) == (0, "")


async def test_through_a_pooler(tmp_path: Path, kept: str, postgres: PostgresServer) -> None:
    direct = postgres.fresh()
    with bouncer_before(postgres) as port:
        url = postgres.url(direct.rpartition("/")[2], port)
        assert (await run(tmp_path, kept, url))[0] == 0
        assert (await run(tmp_path, url, "back.db"))[0] == 0


async def test_a_server_that_begins_meanwhile_is_kept_away(
    tmp_path: Path, kept: str, empty_postgres: str
) -> None:
    async with served(tmp_path, empty_postgres) as server:
        assert "a server uses it" in await refused(tmp_path, kept, empty_postgres)
        server.terminate()
        assert await server.ended() == 0
    assert (await run(tmp_path, kept, empty_postgres))[0] == 0

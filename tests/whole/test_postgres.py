"""A server whose history is on PostgreSQL: killed, restarted, looked into; and one without."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import exchange, whole
from tests.support.live import ROOT, Process
from tests.support.postgres import PostgresServer, command

RESPONSES = ("responses", "conversations")


@pytest.fixture
def url(empty_postgres: str) -> str:
    return empty_postgres


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


async def told(session: aiohttp.ClientSession, address: str, **body: Any) -> Any:
    method = "POST" if body else "GET"
    async with session.request(method, address, json=body or None) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_server_asks_is_killed_and_finds_all_again(
    tmp_path: Path, url: str, session: aiohttp.ClientSession
) -> None:
    env = {"TRIALOGUE_DATABASE": url, "TRIALOGUE_ELIZA_DELAY": "0"}
    slow = {**env, "TRIALOGUE_ELIZA_DELAY": "3600"}
    async with Process(tmp_path, env=env) as server:
        assert f"history          {url} (PostgreSQL)" in server.output
        first = await told(session, f"{server.http}/ask/c", prompt="Hello")
        server.terminate()
        assert await server.ended() == 0
    async with Process(tmp_path, env=slow) as server:
        asking = asyncio.create_task(told(session, f"{server.http}/ask/c", prompt="And?"))
        while True:
            found = await told(session, f"{server.http}/conversations/c")
            if found["message_count"] == 3:
                break
            await asyncio.sleep(0.05)
        server.kill()
        with pytest.raises(aiohttp.ClientError):
            await asking
    async with Process(tmp_path, env=env) as server:
        kept = await told(session, f"{server.http}/conversations/c/messages")
        assert [one["role"] for one in kept["data"]][:3] == ["user", "assistant", "user"]
        assert kept["data"][1]["content"] == first["answer"]
        again = await told(session, f"{server.http}/ask/c", prompt="Still there?")
        assert again["status"] == "completed"
    assert list(tmp_path.glob("*.db*")) == []
    assert list(tmp_path.glob("*.keys*")) == []


async def test_the_database_goes_away_and_comes_back_under_a_server(
    tmp_path: Path, session: aiohttp.ClientSession, postgres: PostgresServer
) -> None:
    env = {"TRIALOGUE_DATABASE": postgres.fresh(), "TRIALOGUE_ELIZA_DELAY": "0"}
    async with Process(tmp_path, env=env) as server:
        await told(session, f"{server.http}/ask/c", prompt="Hello")
        postgres.kill()
        try:
            async with session.post(f"{server.http}/ask/c", json={"prompt": "You?"}) as answer:
                assert answer.status == 503
                assert (await answer.json())["error"]["code"] == "storage_unavailable"
        finally:
            await asyncio.to_thread(postgres.start)
        while True:
            async with session.post(f"{server.http}/ask/c", json={"prompt": "You?"}) as answer:
                if answer.status == 200:
                    break
                assert answer.status == 503
                await asyncio.sleep(0.05)
        kept = await told(session, f"{server.http}/conversations/c")
        assert kept["message_count"] == 4
        assert "Traceback" not in server.log


async def test_who_looks_into_a_database_ends_no_turn_of_its_server(
    tmp_path: Path, url: str, session: aiohttp.ClientSession
) -> None:
    env = {"TRIALOGUE_DATABASE": url, "TRIALOGUE_ELIZA_DELAY": "3600"}
    async with (
        Process(tmp_path, env=env) as server,
        session.post(
            f"{server.http}/ask/c", json={"prompt": "An elephant", "stream": True}
        ) as answer,
    ):
        async for line in answer.content:
            if line.startswith(b"data:"):
                turn_id = json.loads(line[5:])["turn"]["id"]
                break
        found = await asyncio.to_thread(command, tmp_path, url, "search", "elephant")
        assert "elephant" in found.stdout
        out = await asyncio.to_thread(command, tmp_path, url, "export", "--output", "c.json")
        assert out.returncode == 0, out.stderr
        turn = await told(session, f"{server.http}/turns/{turn_id}")
        assert turn["status"] == "running"


async def test_conversations_are_moved_by_export_and_import(tmp_path: Path, url: str) -> None:
    file = f"sqlite:///{tmp_path / 'a.db'}"
    async with SQLiteStore(tmp_path / "a.db") as store:
        for name in ("c", "d"):
            await store.put("default", *whole(name, 12), [])
        await exchange(store, owner="default", into="e")
    command(tmp_path, file, "export", "--output", "out.json")
    moved = command(tmp_path, url, "import", "out.json")
    assert moved.returncode == 0, moved.stderr
    found = command(tmp_path, url, "search", "elephant")
    assert "elephant" in found.stdout
    again = command(tmp_path, url, "export", "--output", "again.json")
    assert again.returncode == 0
    assert (tmp_path / "again.json").read_text() == (tmp_path / "out.json").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("backup", "copy.db"), "pg_dump --format=custom --file=copy.db postgresql://"),
        (("restore", "copy.db"), "pg_restore"),
    ],
)
def test_what_has_no_file_says_what_to_do(
    tmp_path: Path, url: str, words: tuple[str, ...], says: str
) -> None:
    done = command(tmp_path, url, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_keys_of_the_environment_open_an_exposed_server(
    tmp_path: Path, url: str, session: aiohttp.ClientSession
) -> None:
    env = {"TRIALOGUE_DATABASE": url, "TRIALOGUE_API_KEYS": "ada:sesame"}
    async with Process(tmp_path, "--listen", env=env) as server:
        async with session.get(f"{server.http}/conversations") as answer:
            assert answer.status == 401
        headers = {"Authorization": "Bearer sesame"}
        async with session.get(f"{server.http}/conversations", headers=headers) as answer:
            assert answer.status == 200


def test_without_the_driver_it_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from server.__main__ import main; sys.exit(main(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            "TRIALOGUE_DATABASE": "postgresql://127.0.0.1:1/x",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "pip install 'trialogue[postgres]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_on_a_file_loads_nothing_of_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom server.app import lifecycle\n"
        "from server.commands import doctor, transfer\n"
        "print([name for name in sys.modules if 'asyncpg' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_the_password_is_told_nowhere(tmp_path: Path) -> None:
    url = "postgresql://ada:sesame@127.0.0.1:1/x"
    for words in (("config",), ("doctor",), ("serve",), ("backup", "x"), ("keys", "list")):
        done = command(tmp_path, url, *words)
        assert "sesame" not in done.stdout + done.stderr, words


def test_doctor_says_what_a_database_is_like(
    tmp_path: Path, url: str, postgres_of_ctype_c: str, postgres_pooled: str
) -> None:
    ports = [f"--{one}-port=0" for one in ("http", "grpc", "websocket")]

    def looked(at: str) -> tuple[int, str]:
        done = command(tmp_path, at, "doctor", *ports)
        return done.returncode, done.stdout

    code, said = looked(url)
    assert code == 0, said
    assert "PostgreSQL 1" in said
    assert "schema 0 of" in said
    assert "notifications are heard" in said
    assert "its clock is as ours" in said
    assert "a pooler stands before it" in looked(postgres_pooled)[1]
    assert "beginnings of words are found" in looked(postgres_of_ctype_c)[1]
    code, said = looked("postgresql://127.0.0.1:1/x")
    assert code == 1
    assert "BAD  TRIALOGUE_DATABASE: postgresql://127.0.0.1:1/x: " in said


async def test_responses_are_the_same_after_a_restart(
    tmp_path: Path, url: str, session: aiohttp.ClientSession
) -> None:
    env = {"TRIALOGUE_DATABASE": url}
    asked = {"model": "eliza", "input": "Hello"}
    async with Process(tmp_path, env=env) as server:
        responses, conversations = (f"{server.http}/v1/{one}" for one in RESPONSES)
        named = (await told(session, conversations, metadata={"a": "b"}))["id"]
        first = await told(session, responses, **asked, conversation=named)
        branches = [
            await told(session, responses, **asked, previous_response_id=first["id"])
            for _ in range(2)
        ]
        for one in (await told(session, f"{conversations}/{named}/items?order=asc"))["data"][:1]:
            async with session.delete(f"{conversations}/{named}/items/{one['id']}") as answer:
                assert answer.status == 200
        alone = await told(session, responses, **asked)
    async with Process(tmp_path, env=env) as server:
        responses, conversations = (f"{server.http}/v1/{one}" for one in RESPONSES)
        for one in (first, *branches, alone):
            assert await told(session, f"{responses}/{one['id']}") == one
        items = await told(session, f"{conversations}/{named}/items?order=asc")
        assert [one["role"] for one in items["data"]] == ["assistant"]
        listed = await told(session, f"{server.http}/conversations")
        assert [one["id"] for one in listed["data"]] == [named]
        async with session.delete(f"{responses}/{alone['id']}") as answer:
            assert answer.status == 200
        async with session.get(f"{responses}/{alone['id']}/input_items") as answer:
            assert answer.status == 404

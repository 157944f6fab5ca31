"""A whole server whose storage fails: what askers hear, what is kept, and how it comes back."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.core.access.auth import EVERYONE
from storage.sqlite.migrations import steps
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import exchange
from tests.support.live import NAME, Fork, Process
from tests.support.starts import started
from tests.support.wires import WIRES, Turn
from tests.whole.listening import LONG, Listener, checked, heard, refused, settled

SLOW = {"TRIALOGUE_ELIZA_DELAY": "0.1"}


def client(server: Process) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.http, timeout=60)


async def is_unavailable(server: Process) -> None:
    """Check that every wire refuses an ask, that it is not ready, and that it is alive."""
    asks = [refused(heard(wire(server), "refused")) for wire in WIRES.values()]
    assert await asyncio.gather(*asks) == ["storage_unavailable"] * len(asks)
    async with client(server) as http:
        for answer in await asyncio.gather(
            http.get("/readyz"),
            http.post("/ask/refused", json={"prompt": "Hello"}),
            http.post("/conversations", json={"id": "refused"}),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "storage_unavailable"
            assert answer.headers["retry-after"]
        assert (await http.get("/healthz")).status_code == 200


async def is_well(server: Process, conversation_id: str = "well") -> None:
    """Wait until it is ready, and ask it."""
    async with client(server) as http:
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
        answer = await http.post(f"/ask/{conversation_id}", json={"prompt": "Hello"})
        assert answer.json()["status"] == "completed", answer.text
        assert (await http.get("/conversations/refused")).status_code == 404


def nothing_is_half_written(database: Path) -> None:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for half in (
            "SELECT id FROM turns WHERE question NOT IN (SELECT key FROM messages)",
            "SELECT id FROM turns WHERE status = 'completed' AND answer IS NULL",
            "SELECT id FROM messages m WHERE role = 'assistant' AND "
            "NOT EXISTS (SELECT 1 FROM turns t WHERE t.answer = m.key)",
            "SELECT turn FROM checkpoints WHERE turn IN "
            "(SELECT key FROM turns WHERE status <> 'running')",
        ):
            assert connection.execute(half).fetchall() == [], half


# Faults that pass


@asynccontextmanager
async def locked(_: Process, database: Path) -> AsyncIterator[None]:
    """Another program holds the lock that writers need."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def full(server: Process, database: Path) -> AsyncIterator[None]:
    """No file of the server's can grow, nor be written to; its log is a file too."""
    assert database.exists()
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    with suppress(ProcessLookupError):  # it was killed meanwhile
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))


@asynccontextmanager
async def moved(_: Process, database: Path) -> AsyncIterator[None]:
    """Somebody moves the file away, and back."""
    database.rename(database.with_name("moved.db"))
    yield
    database.with_name("moved.db").rename(database)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [locked, full, moved], ids=lambda fault: str(fault.__name__))
async def test_asks_are_refused_and_running_answers_wait(
    tmp_path: Path, fault: Callable[[Process, Path], Any]
) -> None:
    database = tmp_path / NAME
    async with Fork(tmp_path, env=SLOW) as server:
        await is_well(server, "before")
        running = [Listener(wire(server).ask(name, LONG)) for name, wire in WIRES.items()]
        await asyncio.gather(*(one.until(" ") for one in running))
        async with fault(server, database):
            await is_unavailable(server)
            assert not [one for each in running for one in each.heard if one.kind == "turn.ended"]
        ends = [checked(await one.ends()) for one in running]
        for end in ends:
            assert end.turn is not None
            assert end.turn["status"] == "completed"
            async with client(server) as http:
                kept = (await http.get(f"/turns/{end.turn['id']}")).json()
            assert kept["answer"] == end.turn["answer"]
        await is_well(server)
        nothing_is_half_written(database)
        server.terminate()
        assert await server.ended() == 0
        assert "Traceback" not in server.log
    settled(database)


@pytest.mark.slow
async def test_a_file_that_was_deleted_is_not_written_to(tmp_path: Path) -> None:
    database = tmp_path / NAME
    async with Fork(tmp_path) as server:
        await is_well(server)
        database.unlink()
        await is_unavailable(server)
        assert not database.exists()
        server.terminate()
        assert await server.ended() == 0
    assert not database.exists()


async def test_damage_found_while_it_runs_is_no_error_of_ours(tmp_path: Path) -> None:
    database = tmp_path / NAME
    async with SQLiteStore(database) as store:
        for number in range(60):
            await exchange(store, str(number), owner=EVERYONE, into="old", content="word " * 500)
    async with Fork(tmp_path) as server, client(server) as http:
        content = database.read_bytes()
        with database.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * (len(content) - 8192))
        answers = [
            await http.get("/conversations/old/messages"),
            await http.get("/search", params={"q": "word"}),
            await http.post("/ask/old", json={"prompt": "Hello"}),
            await http.get("/turns/turn_30"),
        ]
        assert {answer.status_code for answer in answers} == {503}
        await is_unavailable(server)
        damaged = database.read_bytes()
        server.terminate()
        assert await server.ended() == 0
        assert "Traceback" not in server.log
    assert database.read_bytes() == damaged


# A database that stays away


@asynccontextmanager
async def waited_for_in_vain(server: Process, database: Path) -> AsyncIterator[Turn]:
    """Ask for a long answer; take the disk away once some of it is kept, until it was told."""
    asked = Listener(WIRES["rest"](server).ask("long", LONG))
    await asked.until(" ")
    while not kept_text(database):
        await asyncio.sleep(0.05)
    async with full(server, database):
        turn = checked(await asked.ends()).turn
        assert turn is not None
        assert (turn["status"], turn["error"]["code"]) == ("failed", "storage_unavailable")
        assert len(turn["answer"].split()) > 50  # all that was written was told
        again = checked(await Listener(WIRES["websocket"](server).follow(turn["id"])).ends())
        assert again.turn is not None
        assert (again.turn["status"], again.turn["answer"]) == ("failed", turn["answer"])
        yield turn


def kept_text(database: Path) -> str:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT text FROM checkpoints ORDER BY position").fetchall()
    return "".join(text for (text,) in found)


IMPATIENT = ("--storage-patience", "0.5")


@pytest.mark.slow
async def test_an_answer_that_could_not_be_kept_is_interrupted_after_a_restart(
    tmp_path: Path,
) -> None:
    async with (
        Fork(tmp_path, *IMPATIENT, env=SLOW) as server,
        waited_for_in_vain(server, tmp_path / NAME) as told,
    ):
        await is_unavailable(server)
        server.kill()
    async with Fork(tmp_path) as server, client(server) as http:
        turn = (await http.get(f"/turns/{told['id']}")).json()
        assert turn["status"] == "interrupted"
        assert turn["answer"]
        assert told["answer"].startswith(turn["answer"])
        await is_well(server, "long")
    nothing_is_half_written(tmp_path / NAME)


@pytest.mark.slow
async def test_an_answer_that_was_told_as_failed_is_kept_so_when_the_database_is_back(
    tmp_path: Path,
) -> None:
    async with Fork(tmp_path, *IMPATIENT, env=SLOW) as server:
        async with waited_for_in_vain(server, tmp_path / NAME) as told:
            pass
        await is_well(server, "other")
        await _asked_again(server)
        server.terminate()
        assert await server.ended() == 0
    settled(tmp_path / NAME)
    async with Fork(tmp_path) as server, client(server) as http:
        turn = (await http.get(f"/turns/{told['id']}")).json()
        kept = (turn["status"], turn["error"]["code"], turn["answer"])
        assert kept == ("failed", "storage_unavailable", told["answer"])
    nothing_is_half_written(tmp_path / NAME)


async def _asked_again(server: Process) -> None:
    """Ask where the answer was; that may be busy until its end is kept, and no longer."""
    async with client(server) as http:
        while (answer := await http.post("/ask/long", json={"prompt": "Hi"})).status_code == 409:
            await asyncio.sleep(0.05)
        assert answer.json()["status"] == "completed", answer.text


# Files that no start is made with


async def test_a_start_with_a_damaged_file_says_what_helps_and_leaves_it(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / NAME) as store:
        await exchange(store, content="word " * 2000)
    sound = (tmp_path / NAME).read_bytes()
    later = bytearray(sound)
    later[60:64] = (len(steps()) + 1).to_bytes(4, "big")  # PRAGMA user_version
    page = b"\xff" * 4096
    files = {
        "header": b"\xff" * 100 + sound[100:],
        "middle": sound[: 20 * 4096] + 4 * page + sound[24 * 4096 :],
        "diary": b"Dear diary,\n" * 400,
        "empty": b"",
        "zeros": bytes(8192),
        "cut": sound[: len(sound) // 2],
        "later": bytes(later),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    ports = [f"--{one}-port=0" for one in ("http", "grpc", "websocket")]
    starts = [[*ports, "--database", f"sqlite:///{name}"] for name in files]
    codes, told = await started(tmp_path, starts)
    for name, code, line in zip(files, codes, told, strict=True):
        assert code == 2, name
        assert line.startswith(f"trialogue: TRIALOGUE_DATABASE: {name} "), line
        assert line.count("\n") == 1, line
        helps = "start a later release" if name == "later" else "trialogue restore BACKUP"
        assert helps in line
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert {one.name for one in tmp_path.iterdir()} == {NAME, *files}

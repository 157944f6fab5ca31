"""Tests of what is left of a store whose process is killed, or whose disk is full for real."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from storage.model import Status
from storage.sqlite.conversations import STEP_ROWS
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, whole
from tests.support.live import ROOT

WRITE_FOR_EVER = """
import asyncio, sys
from storage.port import Piece
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, begin, exchange

async def write(store, worker):
    for number in range(1_000_000):
        name = f"{worker}-{number}"
        await exchange(store, name, into=name)
        print("whole", name, flush=True)
        await begin(store, f"{name}-r", into=f"{name}-r")
        await store.checkpoint([Piece(ADA, f"turn_{name}-r", 0, "half an answer")])
        print("half", f"{name}-r", flush=True)

async def main():
    async with SQLiteStore(sys.argv[1]) as store:
        await asyncio.gather(*(write(store, worker) for worker in range(20)))

asyncio.run(main())
"""

IMPORT_FOR_EVER = """
import asyncio, sys
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, whole

async def write(store, worker):
    for number in range(1_000_000):
        name = f"{worker}-{number}"
        await store.put(ADA, *whole(name, int(sys.argv[2])), [])
        print(name, flush=True)

async def main():
    async with SQLiteStore(sys.argv[1]) as store:
        await asyncio.gather(*(write(store, worker) for worker in range(4)))

asyncio.run(main())
"""

FILL_THE_DISK = """
import asyncio, json, resource, sys
from pathlib import Path
from storage.port import UnavailableError
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, begin, exchange

async def main():
    path = Path(sys.argv[1])
    kept = []
    async with SQLiteStore(path) as store:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        size = Path(f"{path}-wal").stat().st_size + 300_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        why = None
        while why is None:
            name = str(len(kept))
            try:
                await begin(store, name, into=name, content="x" * 20_000)
                kept.append(name)
            except UnavailableError as error:
                why = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await exchange(store, "later", into="later")
    print(json.dumps({"kept": kept, "why": why}))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 60, 400])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "trialogue.db"
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += process.stdout.read().splitlines(keepends=True)

    acknowledged = [line.split() for line in told if line.endswith("\n")]
    assert len(acknowledged) >= lines
    async with SQLiteStore(path) as store:
        running = {turn.id: turn.answer for _, turn in await store.running()}
        for kind, name in acknowledged:
            if kind == "half":
                assert running[f"turn_{name}"] == "half an answer"
                continue
            assert (await store.turn(ADA, f"turn_{name}")).status is Status.COMPLETED
            kept = await store.branch(ADA, name, f"a_{name}", limit=5)
            assert [message.content for message in kept] == ["Hi", "Hello"]
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


@pytest.mark.parametrize("imports", [0, 1, 9])
async def test_an_import_that_was_acknowledged_survives_kill_9_and_no_other_is_seen_in_part(
    tmp_path: Path, imports: int
) -> None:
    path, count = tmp_path / "trialogue.db", 3 * STEP_ROWS
    command = [sys.executable, "-c", IMPORT_FOR_EVER, str(path), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(imports)]
        while not _kept(path):
            await asyncio.sleep(0.01)
        process.kill()
    async with SQLiteStore(path) as store:
        seen = [one.id for one in (await store.conversations(ADA, limit=1000)).items]
        assert set(told) <= set(seen)
        for worker in range(4):
            for name in (f"{worker}-{number}" for number in range(imports + 2)):
                assert await store.put(ADA, *whole(name, count), []) == (name not in seen)
                found = await store.every_message(ADA, name, after=None, limit=2 * count)
                assert len(found) == count == (await store.conversation(ADA, name)).message_count


def _kept(path: Path) -> bool:
    """Say whether a message was kept yet, of whatever is hidden."""
    url = f"file:{path}?mode=ro"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(url, uri=True)) as reader:
        return reader.execute("SELECT 1 FROM messages LIMIT 1").fetchone() is not None
    return False


async def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "trialogue.db"
    command = [sys.executable, "-c", FILL_THE_DISK, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert told["kept"]
    assert "cannot be used now" in told["why"]
    async with SQLiteStore(path) as store:
        found = await store.conversations(ADA, limit=1000)
        assert {one.id for one in found.items} == {*told["kept"], "later"}

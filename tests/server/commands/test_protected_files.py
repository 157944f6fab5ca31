"""Nothing that is written by a command takes the place of what a server has open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.forked import fork
from tests.support.live import NAME, Fork

ENDINGS = ("", "-wal", "-shm")
KEYS = ("trialogue.keys", "trialogue.keys.lock")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Fork]:
    """A server that runs, with a key, and what is linked to its files."""
    async with Fork(tmp_path) as started, aiohttp.ClientSession(started.http) as session:
        async with session.post("/ask/c", json={"prompt": "Hello"}) as answer:
            assert answer.status == 200
        assert (await run(tmp_path, "keys", "create", "ada"))[0] == 0
        (tmp_path / "folder").mkdir()
        for number, own in enumerate(files(tmp_path)):
            (tmp_path / f"hard{number}").hardlink_to(own)
            (tmp_path / f"soft{number}").symlink_to(own)
        (tmp_path / "to-be").symlink_to(f"{NAME}-journal")  # which is not there
        yield started


def files(folder: Path) -> list[Path]:
    return [*(folder / f"{NAME}{ending}" for ending in ENDINGS), *(folder / one for one in KEYS)]


def ways(folder: Path, pid: int) -> Iterator[str]:
    """Yield every way to name what is the server's own."""
    for number, own in enumerate(files(folder)):
        yield from (own.name, str(own), f"folder/../{own.name}", f"hard{number}", f"soft{number}")
    yield from (f"{NAME}-journal", "to-be", "trialogue.keys.new")
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if os.path.realpath(link).startswith(str(folder / "trialogue.")):
            yield str(link)


async def run(folder: Path, *words: str) -> tuple[int, str]:
    env = {"PATH": os.environ["PATH"], "TRIALOGUE_API_KEY": "tk_none"}
    process = await fork(*words, folder=folder, env=env)
    _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return which file each is, and what it holds but for the index of the log."""
    return {
        own.name: (own.stat().st_ino, b"" if own.name.endswith("-shm") else own.read_bytes())
        for own in files(folder)
    }


@pytest.mark.parametrize("words", [("backup", "--force"), ("export", "--output")])
async def test_no_copy_takes_their_place(
    server: Fork, tmp_path: Path, words: tuple[str, str]
) -> None:
    before = state(tmp_path)
    for way in ways(tmp_path, server.pid):
        code, told = await run(tmp_path, *words, way)
        assert code == 2, way
        assert told.count("\n") == 1, told
        assert "choose another name" in told or "is the database itself" in told
    assert state(tmp_path) == before
    assert not (tmp_path / f"{NAME}-journal").exists()


async def test_the_keys_of_a_copy_do_not_take_the_place_of_the_server_s(
    server: Fork, tmp_path: Path
) -> None:
    """The copy `trialogue` would have its keys where those of `trialogue.db` are."""
    before = state(tmp_path)
    (tmp_path / "other.keys").symlink_to("trialogue.keys")
    for name in ("trialogue", "other"):
        code, told = await run(tmp_path, "backup", name, "--force")
        assert (code, "has the server's own keys" in told) == (2, True)
        assert not (tmp_path / name).exists()
    assert state(tmp_path) == before


async def test_nothing_is_restored_in_their_place(server: Fork, tmp_path: Path) -> None:
    assert (await run(tmp_path, "backup", "copy.db"))[0] == 0
    before = state(tmp_path)
    for number, own in enumerate(files(tmp_path)):
        for name in (own.name, f"soft{number}"):
            code, _ = await run(tmp_path, "restore", "copy.db", "--database", f"sqlite:///{name}")
            assert code == 2, name
    assert state(tmp_path) == before
    server.kill()
    await server.ended()
    async with (
        Fork(tmp_path) as again,
        aiohttp.ClientSession(again.http) as session,
        session.get("/conversations/c") as answer,
    ):
        assert answer.status == 401  # the keys are there


async def test_a_copy_beside_another_database_that_is_there(tmp_path: Path) -> None:
    """It is not ours, and may be in use by a server whose settings we do not know."""
    (tmp_path / "other.db").touch()
    async with Fork(tmp_path):
        code, told = await run(tmp_path, "backup", "other.db-wal", "--force")
    assert (code, "belongs to the database" in told) == (2, True)

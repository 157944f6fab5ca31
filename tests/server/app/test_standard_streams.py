"""A server whose standard streams are of no use serves as any other, and says what was lost."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from tests.support.live import ANY_PORTS, ROOT, Process

#: what a listening socket's state is called in /proc/net/tcp
LISTENS = "0A"


def ports(pid: int) -> list[int]:
    """Return the ports that a process listens on with IPv4: not gRPC's."""
    sockets = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            sockets.add(str(one.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[1].partition(":")[2], 16)
        for row in rows
        if row[3] == LISTENS and f"socket:[{row[9]}]" in sockets
    ]


@asynccontextmanager
async def started(
    folder: Path, streams: str, *words: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a server whose standard streams are as a shell is told, its log in the file `log`."""
    command = shlex.join([*Process.program, "serve", *ANY_PORTS, *words])
    reader, writer = os.pipe()
    os.close(reader)  # nobody reads what it writes
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {command} {streams}"),
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto"))),
        },
        stdout=writer,
    )
    os.close(writer)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def base_of(process: asyncio.subprocess.Process) -> str:
    """Return where a server's REST is, once it answers there."""
    async with aiohttp.ClientSession() as session:
        while True:
            assert process.returncode is None, "the server has ended"
            for port in ports(process.pid):
                base = f"http://127.0.0.1:{port}"
                async with session.get(f"{base}/healthz") as answer:
                    if answer.status == 200:  # and not the websocket's
                        return base
            await asyncio.sleep(0.02)


CLOSED = ["<&- 2>log", ">&- 2>log", "<&- >&- 2>&-", ">/dev/full 2>log", ">/dev/full 2>/dev/full"]


@pytest.mark.parametrize("streams", [*CLOSED, "2>log"])
async def test_it_serves_and_ends_as_any_other(tmp_path: Path, streams: str) -> None:
    async with started(tmp_path, streams) as process:
        async with (
            aiohttp.ClientSession(await base_of(process)) as session,
            session.post("/ask/c", json={"prompt": "Hello"}) as answer,
        ):
            assert answer.status == 200
        process.terminate()
        assert await process.wait() == 0
    assert "Traceback" not in ((tmp_path / "log").read_text() if "log" in streams else "")


@pytest.mark.parametrize("streams", [">&-", ""])
async def test_a_key_that_nobody_saw_is_said_to_be_lost(tmp_path: Path, streams: str) -> None:
    async with started(tmp_path, f"{streams} 2>log", "--allowed-hosts", "chat.example") as process:
        await base_of(process)
        process.terminate()
        assert await process.wait() == 0
    log = (tmp_path / "log").read_text()
    assert "trialogue keys create default" in log
    assert "tk_" not in log

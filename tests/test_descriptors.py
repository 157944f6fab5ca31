"""A server that may have few descriptors: strangers cannot take the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from tests.live import Process
from tests.upstream_script import say
from tests.upstream_server import ScriptedUpstream

FEW = 256


def limited(soft: int, hard: int) -> tuple[str, ...]:
    """Return our program behind the shell's `ulimit`."""
    limits = f"ulimit -Sn {soft} && ulimit -Hn {hard}"
    return ("sh", "-c", f'{limits} && exec "$@"', "sh", *Process.program)


class Narrow(Process):
    """May have no more than FEW descriptors."""

    program = limited(FEW, FEW)

    @property
    def open_files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


class Raisable(Process):
    """May have FEW descriptors, and twice as many if it asks."""

    program = limited(FEW, 2 * FEW)


@asynccontextmanager
async def silent(urls: list[str], each: int) -> AsyncIterator[None]:
    """Hold connections that say nothing, as many as each port lets be opened."""
    peers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for url in urls:
        at = urlsplit(url)
        peers += [await asyncio.open_connection(at.hostname, at.port) for _ in range(each)]
    try:
        yield
    finally:
        for _, writer in peers:
            writer.transport.abort()


async def test_who_is_there_is_served_while_strangers_hold_all_they_can(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        env = {"OPENAI_API_KEY": "sk-any", "OPENAI_BASE_URL": upstream.base_url}
        async with (
            Narrow(tmp_path, env=env) as server,
            httpx2.AsyncClient(base_url=server.http, timeout=60) as client,
        ):
            assert (await client.get("/readyz")).status_code == 200
            async with silent([server.http, server.websocket, f"//{server.grpc}"], FEW):
                assert server.open_files < FEW
                upstream.script(say("Here."))
                answer = await client.post("/ask/c", json={"prompt": "Anybody?"})
                assert answer.json()["answer"] == "Here.", answer.text
            assert '"level": "error"' not in server.log


async def test_it_takes_what_the_machine_allows_and_the_fast_loop(tmp_path: Path) -> None:
    async with Raisable(tmp_path) as server:
        limits = Path(f"/proc/{server.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert line.split()[3:5] == [str(2 * FEW), str(2 * FEW)]
        assert "uvloop" in Path(f"/proc/{server.pid}/maps").read_text()

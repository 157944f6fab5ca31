"""A server that is paused longer than its clocks, while what it waits for comes: none is late."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.live import Fork
from tests.support.upstream_script import MODEL, Behaviour, Exchange, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import Listener, checked

ANSWER = "Half an answer"
PASSED = ("passed", "passed stream", "joined", "joined stream")
#: seconds: what runs out during the pause, and what does not
SHORT, LONG = 2.0, 60.0
CLOCKS = {
    "between": {"first_byte_timeout": LONG, "between_timeout": SHORT, "timeout": LONG},
    "first byte": {"first_byte_timeout": SHORT, "between_timeout": LONG, "timeout": LONG},
    "total": {"first_byte_timeout": LONG, "between_timeout": LONG, "timeout": 2 * SHORT},
}


def configure(folder: Path, upstream: ScriptedUpstream, clocks: dict[str, float]) -> None:
    told = {"name": '"scripted"', "base_url": f'"{upstream.base_url}"', **clocks}
    lines = [f"{name} = {value}" for name, value in told.items()]
    head = f'model = "{MODEL}"\n\n[[upstreams]]'
    (folder / "trialogue.toml").write_text("\n".join([head, *lines, ""]))


async def post(client: httpx2.AsyncClient, way: str) -> str:
    """Ask under `/v1`, and return the answer's body."""
    said = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-conversation-id": way.replace(" ", "-")} if way.startswith("joined") else {}
    body: dict[str, Any] = {**said, "stream": way.endswith("stream")}
    response = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.text


@pytest.mark.slow
@pytest.mark.parametrize("over", [0.6, 1.5], ids=["late", "very late"])
@pytest.mark.parametrize("clock", CLOCKS)
async def test_what_came_during_a_pause_is_read_before_any_clock(
    tmp_path: Path, clock: str, over: float
) -> None:
    began, go_on = asyncio.Semaphore(0), asyncio.Event()
    ended = asyncio.Semaphore(0)

    def answering() -> Behaviour:
        first = () if clock == "first byte" else ("Half",)
        rest = " an answer" if first else ANSWER

        async def behave(exchange: Exchange) -> None:
            began.release()
            await say(*first, go_on, rest)(exchange)
            ended.release()

        return behave

    ways = len(WIRES) + len(PASSED)
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        configure(tmp_path, upstream, CLOCKS[clock])
        upstream.script(*(answering() for _ in range(ways)))
        async with (
            Fork(tmp_path) as server,
            httpx2.AsyncClient(base_url=server.http, timeout=60, verify=False) as client,
        ):
            listeners = [Listener(wire(server).ask(name, "Hi")) for name, wire in WIRES.items()]
            posts = [asyncio.create_task(post(client, way)) for way in PASSED]
            for _ in range(ways):
                await began.acquire()
            if clock != "first byte":
                await asyncio.gather(*(listener.until("Half") for listener in listeners))
            os.kill(server.pid, signal.SIGSTOP)
            go_on.set()
            for _ in range(ways):
                await ended.acquire()
            await asyncio.sleep(min(CLOCKS[clock].values()) + over)
            os.kill(server.pid, signal.SIGCONT)
            for listener in listeners:
                end = checked(await listener.ends()).turn
                assert end is not None
                assert (end["status"], end["answer"]) == ("completed", ANSWER), end["error"]
            for body in await asyncio.gather(*posts):
                assert "answer" in body
                assert "error" not in body

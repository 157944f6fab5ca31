"""The websocket mode of `/v1/responses` on a whole server that is drained, or killed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.live import Fork

LONG = "I remember a long and winding road " * 8


def slow(folder: Path, *words: str) -> Fork:
    """Return a server whose answers take their time."""
    return Fork(folder, *words, env={"TRIALOGUE_ELIZA_DELAY": "0.1"})


@asynccontextmanager
async def connected(server: Fork) -> AsyncIterator[ClientConnection]:
    url = f"{server.http.replace('http', 'ws', 1)}/v1/responses"
    async with connect(url, proxy=None) as socket:
        yield socket


async def create(socket: ClientConnection, said: str, **more: Any) -> None:
    frame = {"type": "response.create", "model": "eliza", "input": said, **more}
    await socket.send(json.dumps(frame))


async def until(socket: ClientConnection, *kinds: str) -> list[dict[str, Any]]:
    heard = [json.loads(await socket.recv())]
    while heard[-1]["type"] not in kinds:
        heard.append(json.loads(await socket.recv()))
    return heard


async def test_a_drain_tells_the_end_of_all_and_closes_with_1001(tmp_path: Path) -> None:
    async with slow(tmp_path, "--drain-seconds", "0.5") as server:
        async with connected(server) as socket:
            await create(socket, LONG)
            await create(socket, "And another")
            await until(socket, "response.output_text.delta")
            server.terminate()
            (*_, failed) = await until(socket, "response.failed")
            assert failed["response"]["status"] == "failed"
            (refused,) = await until(socket, "error")
            assert refused["status"] == 503
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1001
        assert await server.ended() == 0


async def test_what_was_told_is_told_the_same_after_a_kill(tmp_path: Path) -> None:
    async with slow(tmp_path) as server:
        async with connected(server) as socket:
            await create(socket, "Hello")
            whole = await until(socket, "response.completed")
            await create(socket, LONG)
            begun = await until(socket, "response.output_text.delta")
            server.kill()
        await server.ended()
    async with (
        Fork(tmp_path) as server,
        httpx2.AsyncClient(base_url=f"{server.http}/v1/responses", timeout=60) as client,
    ):
        id_ = whole[-1]["response"]["id"]
        assert (await client.get(f"/{id_}")).json() == whole[-1]["response"]
        left = (await client.get(f"/{begun[0]['response']['id']}")).json()
        assert left["status"] == "failed"
        async with connected(server) as socket:
            await create(socket, "And then?", previous_response_id=id_)
            (*_, ended) = await until(socket, "response.completed", "error")
            assert ended["response"]["previous_response_id"] == id_

"""A server that may have few descriptors: neither strangers nor one key can take the last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx2
from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import ClientConnection, connect

from tests.server.transports.grpc import grpc_client
from tests.server.transports.rest.http_client import Events, refused, running, talking
from tests.support.access import CODE, bearing
from tests.support.live import Process
from tests.support.upstream_script import Exchange, hang, say
from tests.support.upstream_server import ScriptedUpstream

FEW = 256
#: The usual soft limit, which in a container may be the hard one too.
USUAL = 1024
#: Asks of one key: frames on 16 websockets, calls on one gRPC channel, requests on connections.
ON_EACH_SOCKET, CALLS, REQUESTS = 62, 908, 100
#: What all may have answered at once, and that key: half of the places for all.
ALL_ANSWERS = 180
HALF = ALL_ANSWERS // 2


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


class Usual(Narrow):
    """May have the usual number of descriptors."""

    program = limited(USUAL, USUAL)


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


async def held_or_said(exchange: Exchange) -> None:
    """Hold the answer to what says so open, and say the others."""
    await (hang() if b"Hold" in exchange.request.raw else say("Here."))(exchange)


async def refused_by_frame(socket: ClientConnection) -> int:
    """Ask on one websocket until all is begun or refused; return how many were refused."""
    await socket.recv()
    for _ in range(ON_EACH_SOCKET):
        await socket.send('{"type": "ask", "conversation_id": "new", "prompt": "Hold"}')
    frames = [json.loads(await socket.recv()) for _ in range(ON_EACH_SOCKET)]
    errors = [frame["error"]["code"] for frame in frames if frame["type"] == "error"]
    assert set(errors) <= {CODE}
    return len(errors)


async def refused_by_status(ask: Any) -> int:
    """Ask over gRPC; return 1 where that was refused."""
    call = ask(
        pb.AskRequest(conversation_id="new", prompt="Hold"),
        metadata=grpc_client.bearing("key-of-ada"),
    )
    told = await grpc_client.refusal(call.read())
    assert (told.code.name, told.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED")
    return 1


async def refused_by_answer(url: str) -> int:
    """Ask on a connection of its own; return 1 where that was refused."""
    async with talking(url, headers=bearing("key-of-ada")) as client:
        response = await client.post("/ask/new", json={"prompt": "Hold"})
        refused(response, 429, CODE)
        assert response.headers["retry-after"] == "1"
        return 1


async def is_served(server: Usual, key: str) -> None:
    """Look at the health, ask, and follow what was asked, each on a connection of its own."""
    async with talking(server.http) as client:
        assert (await client.get("/healthz")).status_code == 200
    async with talking(server.http, headers=bearing(key)) as client:
        asked = await client.post("/ask/c", json={"prompt": "Anybody?"})
        assert asked.json()["answer"] == "Here.", asked.text
    async with talking(server.http, headers=bearing(key)) as client:
        followed = await client.get(f"/turns/{asked.json()['id']}/events")
        assert "event: turn.ended" in followed.text


async def test_2000_asks_of_one_key_leave_room_for_another(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.script(*[held_or_said] * 5000)
        env = {
            "OPENAI_API_KEY": "sk-any",
            "OPENAI_BASE_URL": upstream.base_url,
            "TRIALOGUE_API_KEYS": "ada:key-of-ada,bob:key-of-bob",
        }
        async with (
            Usual(tmp_path, env=env) as server,
            grpc.aio.insecure_channel(server.grpc) as channel,
            AsyncExitStack() as stack,
        ):
            ada = partial(connect, additional_headers=bearing("key-of-ada"), proxy=None)
            sockets = [await stack.enter_async_context(ada(server.websocket)) for _ in range(16)]
            late = await asyncio.gather(*(refused_by_frame(socket) for socket in sockets))
            assert sum(late) == 16 * ON_EACH_SOCKET - HALF
            ask = grpc_client.stub(channel).Ask
            await asyncio.gather(*(refused_by_status(ask) for _ in range(CALLS)))
            await asyncio.gather(*(refused_by_answer(server.http) for _ in range(REQUESTS)))
            for _ in range(3):
                await is_served(server, "key-of-bob")
            assert len([one for one in upstream.requests if b"Hold" in one.raw]) == HALF
            assert server.open_files < USUAL // 2
        assert '"level": "error"' not in server.log


async def held(url: str) -> None:
    """Ask on a connection of its own, and wait for what is not said; a refusal ends it."""
    async with talking(url) as client:
        with suppress(httpx2.TransportError):  # cut, where there were too many at the door
            refused(await client.post("/ask/new", json={"prompt": "Hold"}), 429, CODE)


async def test_where_no_key_is_asked_for_all_answers_leave_room_to_look(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.script(*[hang()] * 1000)
        env = {"OPENAI_API_KEY": "sk-any", "OPENAI_BASE_URL": upstream.base_url}
        async with Usual(tmp_path, env=env) as server, asyncio.TaskGroup() as group:
            asking: set[asyncio.Task[None]] = set()
            while len(asking) < ALL_ANSWERS:
                asking |= {group.create_task(held(server.http)) for _ in range(50)}
                await asyncio.wait(asking, timeout=0.1)
                asking = {one for one in asking if not one.done()}
            await upstream.request(ALL_ANSWERS - 1)
            while len(asking) > ALL_ANSWERS:
                await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                asking = {one for one in asking if not one.done()}
            async with talking(server.http) as client:
                assert (await client.get("/healthz")).status_code == 200
                (newest, *_) = (await client.get("/conversations")).json()["data"]
                turn = await running(client, newest["id"])
                async with client.stream("GET", f"/turns/{turn}/events") as followed:
                    assert (await Events(followed).next()).kind == "turn.started"
                late = await client.post("/ask/late", json={"prompt": "Hold"})
                assert refused(late, 429, CODE)["message"].startswith("All places")
            for one in asking:
                one.cancel()
            asked = [one for one in upstream.requests if one.path.endswith("/chat/completions")]
            assert len(asked) == ALL_ANSWERS

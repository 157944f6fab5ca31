"""Connections to one upstream: nobody waits for one in silence, and few are kept afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from server.upstream.answering import Answering
from server.upstream.port import Call, Prompt
from server.upstream.remote.client import UpstreamClient
from storage.model import PromptMessage, Role
from tests.server.upstream.remote.turn_helpers import asking
from tests.support.footprint import raise_descriptors
from tests.support.upstream_script import hang, say
from tests.support.upstream_server import ScriptedUpstream

PROMPT = Prompt("gpt-4o", (PromptMessage(Role.USER, "Hello"),))
BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}'

One = Callable[[], Awaitable[str]]


def writing(upstream: Answering) -> One:
    """Return what has an answer written."""

    async def one() -> str:
        pieces = [piece async for piece in upstream.complete(PROMPT)]
        return "".join(piece for piece in pieces if isinstance(piece, str))

    return one


def passing(passage: UpstreamClient) -> One:
    """Return what passes a call on."""

    async def one() -> str:
        call = Call("POST", "/chat/completions", "", {"content-type": "application/json"}, BODY)
        async with passage.call(call) as reply:
            return b"".join([piece async for piece in reply.body]).decode()

    return one


@pytest.fixture(params=["writes answers", "passes calls on"])
def client(
    request: pytest.FixtureRequest,
) -> Callable[..., tuple[One, Callable[[], Awaitable[None]]]]:
    def made(base_url: str, **kept: int) -> tuple[One, Callable[[], Awaitable[None]]]:
        if request.param == "writes answers":
            upstream = asking(api_key="k", base_url=base_url, **kept)
            return writing(upstream), upstream.close
        passage = UpstreamClient(api_key="k", base_url=base_url, **kept)  # type: ignore[arg-type]
        return passing(passage), passage.close

    return made


Made = Callable[..., tuple[One, Callable[[], Awaitable[None]]]]


async def test_few_connections_are_kept_of_many_that_were_in_use(client: Made) -> None:
    async with ScriptedUpstream() as server:
        one, close = client(server.base_url, kept=3)
        for _ in range(2):  # the second time three of them are there already
            gate = asyncio.Event()
            begun = len(server.requests)
            server.script(*[say("Hel", gate, "lo")] * 20)
            asking = [asyncio.create_task(_of(one)) for _ in range(20)]
            await server.request(begun + 19)
            assert server.connections == 20
            gate.set()
            assert all("lo" in answer for answer in await asyncio.gather(*asking))
            while server.connections > 3:
                await asyncio.sleep(0.01)
            assert server.connections == 3
        assert "Hello" in await one()
        assert server.requests[-1].connection in {r.connection for r in server.requests[:-1]}
        await close()


async def test_nobody_waits_for_a_connection(client: Made) -> None:
    many = min(1200, raise_descriptors(4096) // 3 // 100 * 100)
    async with ScriptedUpstream() as server:
        server.script(*[hang()] * many)
        one, close = client(server.base_url)
        asking: list[asyncio.Task[str]] = []
        while len(asking) < many:  # a hundred at a time: what is counted is how many are open
            asking += [asyncio.create_task(_of(one)) for _ in range(100)]
            await server.request(len(asking) - 1)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await close()


async def _of(one: One) -> str:
    return await one()

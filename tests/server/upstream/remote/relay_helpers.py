"""Short words for tests that pass calls on to a scripted upstream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.upstream.port import Call, Reply
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import UpstreamClient
from tests.support.upstream_script import KEY, Behaviour
from tests.support.upstream_server import ScriptedUpstream

CHAT = "/chat/completions"
STREAM = {"accept": "text/event-stream", "content-type": "application/json"}


def call(path: str = CHAT, *, stream: bool = False, method: str = "POST", **body: Any) -> Call:
    asked = {"model": "m", "messages": [], **({"stream": True} if stream else {}), **body}
    headers = STREAM if stream else {"accept": "application/json"}
    return Call(method, path, "", headers, json.dumps(asked).encode(), "m")


@asynccontextmanager
async def scripted(
    *behaviours: Behaviour, key: str | None = KEY, **bounds: Any
) -> AsyncIterator[tuple[ScriptedUpstream, UpstreamClient]]:
    async with ScriptedUpstream() as server:
        server.script(*behaviours)
        passage = UpstreamClient(api_key=key, base_url=server.base_url, bounds=Bounds(**bounds))
        try:
            yield server, passage
        finally:
            await passage.close()


@asynccontextmanager
async def replied(
    *behaviours: Behaviour, asked: Call | None = None, **bounds: Any
) -> AsyncIterator[Reply]:
    """Yield the reply that an upstream's behaviour comes to."""
    async with (
        scripted(*behaviours, **bounds) as (_, passage),
        passage.call(asked or call()) as reply,
    ):
        yield reply


async def read(reply: Reply) -> bytes:
    return b"".join([piece async for piece in reply.body])


async def answer(*behaviours: Behaviour, asked: Call | None = None, **bounds: Any) -> bytes:
    """Return the body that an upstream's behaviour comes to."""
    async with replied(*behaviours, asked=asked or call(stream=True), **bounds) as reply:
        assert reply.status == 200
        return await read(reply)

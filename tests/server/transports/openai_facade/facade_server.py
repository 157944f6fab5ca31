"""A live `/v1` over scripted upstreams, and what its tests say again and again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai

from server.core.conversations import Conversations
from server.core.doors import Doors
from server.core.planning import Defaults
from server.settings import load
from server.transports.http import HttpListener, listening_socket
from server.transports.openai_facade.app import Facade
from server.upstream.incoming import Bounds
from server.upstream.passage import Passage
from server.upstream.port import OpenAISpeaker
from server.upstream.upstreams import Member, Upstreams
from storage.sqlite import SQLiteStore
from tests.fakes import Puppet
from tests.server.transports.http_server import OPEN_HOUSE, talking
from tests.upstream_server import ScriptedUpstream

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": MODEL, "messages": MESSAGES}
SHAPE = {"message", "type", "param", "code"}


@dataclass(frozen=True)
class Served:
    """A server that a test talks to, with OpenAI's client and without."""

    port: int
    client: httpx2.AsyncClient
    openai: openai.AsyncOpenAI
    upstreams: Upstreams
    conversations: Conversations

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def member(speaker: OpenAISpeaker, name: str = "scripted", **given: Any) -> Member:
    """Return a member that no conversation is written by."""
    return Member(name, Puppet(), speaker, **given)


def passage(upstream: ScriptedUpstream, **bounds: float) -> Passage:
    return Passage(api_key=KEY, base_url=upstream.base_url, bounds=Bounds(**bounds))  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    folder: Path, members: Sequence[Member], doors: Doors = OPEN_HOUSE, **flags: Any
) -> AsyncIterator[Served]:
    """Serve these upstreams; they are closed at the end."""
    async with AsyncExitStack() as stack:
        upstreams = Upstreams(members)
        stack.push_async_callback(upstreams.close)
        store = await stack.enter_async_context(SQLiteStore(folder / "trialogue.db"))
        core = await stack.enter_async_context(Conversations(store, upstreams, Defaults(MODEL)))
        settings = load(flags)
        facade = Facade(upstreams, core, default_model=MODEL, whole_bytes=settings.max_body_bytes)
        bound = listening_socket("127.0.0.1", 0)
        listener = HttpListener(
            core, doors, settings, bound=bound, websocket_port=9001, openai=facade
        )
        await stack.enter_async_context(listener)
        url = f"http://127.0.0.1:{listener.port}"
        client = await stack.enter_async_context(talking(url))
        speaking = openai.AsyncOpenAI(api_key="a", base_url=f"{url}/v1", max_retries=0)
        await stack.enter_async_context(speaking)
        yield Served(listener.port, client, speaking, upstreams, core)


@asynccontextmanager
async def passing(
    folder: Path, doors: Doors = OPEN_HOUSE, *, bounds: dict[str, float] | None = None, **flags: Any
) -> AsyncIterator[tuple[Served, ScriptedUpstream]]:
    """Serve one scripted upstream."""
    async with ScriptedUpstream(models=(MODEL, "davinci-002")) as upstream:
        speaker = passage(upstream, **(bounds or {}))
        async with serving(folder, [member(speaker)], doors, **flags) as served:
            yield served, upstream


def error_of(response: httpx2.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Return the error of a refusal, which has OpenAI's shape to the field."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error = json.loads(response.content)["error"]
    assert set(error) >= SHAPE, error
    message = error["message"]
    assert message
    assert message.isascii()
    assert message.isprintable()
    assert error["code"] == code, error
    assert isinstance(error["type"], str)
    assert isinstance(error, dict)
    return error


def events_of(body: bytes) -> list[Any]:
    """Return the events of a stream, parsed; the last is "[DONE]" where it ended well."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    data = [block.removeprefix("data: ") for block in blocks]
    return [one if one == "[DONE]" else json.loads(one) for one in data]

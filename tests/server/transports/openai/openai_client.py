"""A live `/v1` over scripted upstreams, and what its tests say again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai

from server.app.core import core_of
from server.config.limits import HttpLimits, UpstreamLimits, WebsocketLimits
from server.config.quantities import budget
from server.config.settings import load
from server.core.access.auth import Auth
from server.core.clock import microseconds
from server.core.completions import StoredCompletions, UpstreamObjects
from server.core.conversations import Conversations
from server.core.prompt.characters import Characters
from server.core.turns.plan import Defaults
from server.transports.http.listener import HttpListener
from server.transports.openai.app import Facade
from server.transports.rest import app as rest
from server.transports.rest.state import RestState
from server.transports.sockets import listening_socket
from server.transports.websocket.endpoint import Endpoint
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import OpenAISpeaker
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import UpstreamClient
from storage.sqlite.store import SQLiteStore
from tests.support.access import OPEN_ACCESS
from tests.support.fakes import Puppet
from tests.support.upstream_script import KEY, MODEL
from tests.support.upstream_server import ScriptedUpstream

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": MODEL, "messages": MESSAGES}
STREAM = {**CHAT, "stream": True}
TOOLS = [{"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}]
#: a response that is the upstream's to answer: it holds no state, and has a tool of theirs
HANDED_ON = {"model": MODEL, "store": False, "tools": [{"type": "web_search"}]}
SHAPE = {"message", "type", "param", "code"}


@dataclass(frozen=True)
class Served:
    """A server that a test talks to, with OpenAI's client and without."""

    port: int
    client: httpx2.AsyncClient
    openai: openai.AsyncOpenAI
    upstreams: UpstreamPool
    conversations: Conversations
    store: SQLiteStore
    facade: Facade
    objects: UpstreamObjects

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


#: a server, and the upstream behind it
Pair = tuple[Served, ScriptedUpstream]


def member(speaker: OpenAISpeaker, name: str = "scripted", **given: Any) -> PoolMember:
    """Return a member that no conversation is written by."""
    return PoolMember(name, Puppet(), speaker, responses=True, **given)


def passage(upstream: ScriptedUpstream, **bounds: float) -> UpstreamClient:
    return UpstreamClient(api_key=KEY, base_url=upstream.base_url, bounds=Bounds(**bounds))  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    folder: Path,
    members: Sequence[PoolMember],
    auth: Auth = OPEN_ACCESS,
    *,
    characters: Characters | None = None,
    limits: HttpLimits | None = None,
    at_once: UpstreamLimits | None = None,
    websockets: WebsocketLimits | None = None,
    **flags: Any,
) -> AsyncIterator[Served]:
    """Serve these upstreams; they are closed at the end."""
    async with AsyncExitStack() as stack:
        upstreams = UpstreamPool(members)
        settings = load(flags)
        most = budget(settings.token_budget) if settings.token_budget else None
        defaults = Defaults(
            MODEL,
            characters=characters or Characters(),
            budget=most,
            upstreams=at_once or UpstreamLimits(),
        )
        stack.push_async_callback(upstreams.close)
        store = await stack.enter_async_context(SQLiteStore(folder / "trialogue.db"))
        core = await stack.enter_async_context(core_of(store, upstreams, defaults))
        objects = UpstreamObjects(store, microseconds)
        facade = Facade(
            core,
            StoredCompletions(store),
            objects,
            default_model=MODEL,
            whole_bytes=settings.max_body_bytes,
        )
        bound = listening_socket("127.0.0.1", 0)
        mounts = [*facade.mounts(), rest.mount(RestState(core))]
        websocket = Endpoint(auth, websockets or WebsocketLimits(), settings.max_body_bytes)
        stack.push_async_callback(websocket.close)
        await stack.enter_async_context(websocket.key_watch)
        port = bound.getsockname()[1]
        mode = facade.websocket_mode(auth, websocket.limits, websocket.staying, port)
        await stack.enter_async_context(mode)
        upgrades = dict.fromkeys(mode.paths, websocket.serving(mode.receive, mode.door))
        listener = HttpListener(
            mounts, core.requests, auth, settings, bound=bound, limits=limits, upgrades=upgrades
        )
        await stack.enter_async_context(listener)
        url = f"http://127.0.0.1:{listener.port}"
        client = await stack.enter_async_context(_client(base_url=url))
        speaking = openai.AsyncOpenAI(
            api_key="a", base_url=f"{url}/v1", max_retries=0, http_client=_client()
        )
        await stack.enter_async_context(speaking)
        yield Served(listener.port, client, speaking, upstreams, core, store, facade, objects)


def _client(**options: Any) -> httpx2.AsyncClient:
    """Return a client that loads no certificates, which takes longer than most tests."""
    return httpx2.AsyncClient(timeout=30, verify=False, **options)


@asynccontextmanager
async def passing(
    folder: Path, auth: Auth = OPEN_ACCESS, *, bounds: dict[str, float] | None = None, **flags: Any
) -> AsyncIterator[Pair]:
    """Serve one scripted upstream."""
    async with ScriptedUpstream(models=(MODEL, "davinci-002")) as upstream:
        speaker = passage(upstream, **(bounds or {}))
        async with serving(folder, [member(speaker)], auth, **flags) as served:
            yield served, upstream


class Wire:
    """A TCP connection to the server, to see its single writes and to leave in the middle."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def post(
        self, path: str, body: object, *, less: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a request, its last bytes left out."""
        data = json.dumps(body).encode()
        own = {"Host": "localhost", "Content-Length": str(len(data)), **(headers or {})}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own.items())]
        head = "\r\n".join([*lines, "", ""])
        self._writer.write(head.encode() + data[: len(data) - less])
        await self._writer.drain()

    async def get(self, path: str) -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """Read one HTTP chunk, which is what the server wrote at once; none is the end."""
        data = await self.reader.readexactly(int(await self.reader.readuntil(b"\r\n"), 16) + 2)
        return data[:-2]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """Connect, and leave without a word at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


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

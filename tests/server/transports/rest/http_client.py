"""A live HTTP listener over a real core, and what HTTP tests say again and again."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel

from server.app.core import core_of
from server.config.limits import HttpLimits as Limits
from server.config.settings import load
from server.core.access.auth import Auth
from server.core.conversations import Conversations, Defaults
from server.transports.http.listener import HttpListener
from server.transports.http.upgrade import Upgrades
from server.transports.rest import app as rest
from server.transports.rest.schemas import ListShape, MessageShape, TurnShape
from server.transports.rest.sse import KEEP_ALIVE_SECONDS
from server.transports.rest.state import RestState
from server.transports.sockets import listening_socket
from server.upstream.port import Upstream
from storage.sqlite.store import SQLiteStore
from tests.support.access import OPEN_ACCESS
from tests.support.fakes import Puppet

Client = httpx2.AsyncClient

#: What callers were promised of each object; more fields may come, none may go.
PROMISED = {
    "turn": (
        "id conversation_id status model parent_id question_id answer_id answer finish_reason "
        "usage context error created_at ended_at"
    ),
    "message": ("id conversation_id parent_id role content tokens model turn_id created_at"),
    "conversation": (
        "id title system_prompt model metadata created_at updated_at message_count head_id"
    ),
    "list": "object data first_id last_id has_more",
}


@dataclass(frozen=True)
class Served:
    """A server that a test talks to."""

    conversations: Conversations
    port: int
    client: httpx2.AsyncClient


@asynccontextmanager
async def serving(
    conversations: Conversations,
    auth: Auth = OPEN_ACCESS,
    *,
    limits: Limits | None = None,
    keep_alive: float = KEEP_ALIVE_SECONDS,
    upgrades: Upgrades | None = None,
    **flags: Any,
) -> AsyncIterator[Served]:
    bound = listening_socket("127.0.0.1", 0)
    mounts = [rest.mount(RestState(conversations, keep_alive=keep_alive))]
    listener = HttpListener(
        mounts,
        conversations.requests,
        auth,
        load(flags),
        bound=bound,
        limits=limits,
        upgrades=upgrades,
    )
    async with listener, talking(f"http://127.0.0.1:{listener.port}") as client:
        yield Served(conversations, listener.port, client)


@asynccontextmanager
async def serving_anew(
    folder: Path, upstream: Upstream, auth: Auth = OPEN_ACCESS
) -> AsyncIterator[Served]:
    """Serve a history of its own, for the tests of a whole module."""
    async with (
        SQLiteStore(folder / "trialogue.db") as store,
        core_of(store, upstream, Defaults("gpt-4o")) as conversations,
        serving(conversations, auth) as server,
    ):
        yield server


def talking(url: str, **options: Any) -> httpx2.AsyncClient:
    """Return a client of a server."""
    return httpx2.AsyncClient(base_url=url, timeout=30, verify=False, **options)


def exact(shape: type[BaseModel], body: Any) -> dict[str, Any]:
    """Return a body that is as its shape says, to the field, and has what was promised."""
    assert shape.model_validate(body).model_dump(mode="json", exclude_unset=True) == body
    assert set(PROMISED[body["object"]].split()) <= body.keys()
    assert isinstance(body, dict)
    return body


def refused(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Return the error of a response that is one, in the shape that all have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return error_in(response.content, code)


def error_in(body: bytes, code: str) -> dict[str, Any]:
    """Return the error that a body is, in the shape that all have."""
    told = json.loads(body)
    assert told.keys() == {"error"}
    error = told["error"]
    assert isinstance(error, dict)
    assert error.keys() - {"turn_id"} == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    assert error["message"]
    assert "\n" not in error["message"]
    return error


async def ask(
    client: httpx2.AsyncClient, conversation_id: str = "c1", **body: Any
) -> dict[str, Any]:
    """Ask, and return the turn when it has ended."""
    response = await client.post(f"/ask/{conversation_id}", json={"prompt": "Hello", **body})
    assert response.status_code == 200, response.text
    return exact(TurnShape, response.json())


async def asking(client: httpx2.AsyncClient, puppet: Puppet, times: int = 1, **body: Any) -> Any:
    """Ask, and return what waits for the answer once the upstream has been asked."""
    task = asyncio.create_task(ask(client, **body))
    await puppet.asked(times)
    return task


async def running(client: httpx2.AsyncClient, conversation_id: str = "c1") -> str:
    """Return the id of the turn that was begun last."""
    messages = (await client.get(f"/conversations/{conversation_id}/messages")).json()["data"]
    return str(messages[-1]["turn_id"])


async def messages(
    client: httpx2.AsyncClient, conversation_id: str = "c1", **params: Any
) -> dict[str, Any]:
    response = await client.get(f"/conversations/{conversation_id}/messages", params=params)
    return exact(ListShape[MessageShape], response.json())


def contents(page: dict[str, Any]) -> list[Any]:
    return [one["content"] for one in page["data"]]


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    kind: str
    id: str
    data: dict[str, Any]

    @property
    def cursor(self) -> int:
        return int(self.data["cursor"])


def told(block: str) -> Told:
    """Read an event as it stands on the wire: event, id, data, each on a line of its own."""
    kind, number, data = block.split("\n")
    event = Told(
        kind.removeprefix("event: "), number.removeprefix("id: "), json.loads(data[len("data: ") :])
    )
    assert block.startswith(f"event: {event.kind}\nid: {event.id}\ndata: {{")
    assert event.data["type"] == event.kind
    assert event.id == f"{event.data['turn_id']}:{event.cursor}"
    return event


class Events:
    """Reads the events of turns of a response, one at a time; the queue is passed over."""

    def __init__(self, response: httpx2.Response) -> None:
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
        self._blocks = self._read(response)

    async def next(self) -> Told:
        return told(await anext(self._blocks))

    async def rest(self) -> list[Told]:
        return [told(block) async for block in self._blocks]

    async def _read(self, response: httpx2.Response) -> AsyncIterator[str]:
        left = ""
        async for text in response.aiter_text():
            *blocks, left = (left + text).split("\n\n")
            for block in blocks:
                if not block.startswith((":", "event: queue.")):
                    yield block
        assert not left


def text_of(events: list[Told]) -> str:
    """Return the text of the deltas, having checked that each cursor is where its text ends."""
    position = events[0].cursor if events[0].kind == "turn.started" else None
    for event in events:
        if event.kind == "turn.delta":
            assert position is None or event.cursor == position + len(event.data["text"])
            position = event.cursor
    return "".join(event.data["text"] for event in events if event.kind == "turn.delta")


@dataclass(frozen=True)
class Reply:
    """An answer as it came over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A TCP connection to the server, for what no client library would send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    async def send(self, data: bytes) -> None:
        """Send all of it, or what the server takes before it hangs up."""
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def until(self, mark: bytes) -> bytes:
        """Read up to a mark, and with it."""
        while mark not in self._read:
            await self._more()
        return self._take(self._read.index(mark) + len(mark))

    async def reply(self) -> Reply:
        """Read one answer that has a length."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        body = await self._exactly(int(headers.get("content-length", 0)))
        return Reply(int(first.split(" ")[1]), headers, body)

    async def chunk(self) -> bytes:
        """Read one HTTP chunk, which is what the server wrote at once; none is the end."""
        size = int(await self.until(b"\r\n"), 16)
        return (await self._exactly(size + 2))[:-2]

    async def closed(self) -> bytes:
        """Read until the server hangs up, in good order or not."""
        with suppress(ConnectionError):
            while True:
                await self._more()
        return self._take(len(self._read))

    async def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            await self._more()
        return self._take(size)

    async def _more(self) -> None:
        more = await asyncio.get_running_loop().sock_recv(self._connection, 1 << 18)
        if not more:
            raise ConnectionResetError("the server hung up")
        self._read += more

    def _take(self, size: int) -> bytes:
        taken, self._read = self._read[:size], self._read[size:]
        return taken


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    with socket.socket() as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        yield Wire(connection)


def request(
    method: str, path: str, body: bytes = b"", *headers: str, framing: bool = True
) -> bytes:
    """Return a request as bytes, with a Host and, where there is a body, its length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body and framing:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

"""A live websocket listener over a real store, and what its tests say again and again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from server.config.limits import WebsocketLimits as Limits
from server.config.settings import load
from server.core.access.auth import EVERYONE, Auth
from server.core.conversations import Conversations
from server.transports.websocket.listener import WebsocketListener
from tests.support.access import OPEN_ACCESS

OWNER = EVERYONE
KEY = "key-of-ada"
#: the code of a close that says to come again later (RFC 6455)
TRY_LATER = 1013


class Peer:
    """A client that writes and reads frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def write(self, text: str | bytes) -> None:
        await self.socket.send(text)

    async def read(self) -> str:
        """Return the next frame as it is."""
        frame = await self.socket.recv()
        assert isinstance(frame, str)
        return frame

    async def hear(self) -> dict[str, Any]:
        """Return the next frame."""
        frame = json.loads(await self.read())
        assert isinstance(frame, dict)
        return frame

    async def hear_to_the_end(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """Return the frames of one request up to its turn's end."""
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "turn.ended":
            frame = await self.hear()
            if frame.get("request_id") == request_id:
                heard.append(frame)
        return heard

    async def refusal(self) -> dict[str, Any]:
        """Return the error of the next frame, which is one."""
        frame = await self.hear()
        assert frame["type"] == "error", frame
        error = frame["error"]
        assert isinstance(error, dict)
        return {**error, "request_id": frame.get("request_id")}

    async def last_words(self) -> list[str | bytes]:
        """Return all frames up to the close."""
        heard = []
        with suppress(ConnectionClosed):
            while True:
                heard.append(await self.socket.recv())
        return heard

    async def close_code(self) -> int | None:
        """Read on until the connection is closed, and return the code of that."""
        await self.last_words()
        return self.socket.close_code


@dataclass(frozen=True)
class Served:
    """A server that a test talks to."""

    conversations: Conversations
    listener: WebsocketListener

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.listener.port}/"

    @asynccontextmanager
    async def stranger(self, query: str = "", **options: Any) -> AsyncIterator[Peer]:
        """Connect, and leave what the server says to the test."""
        async with connect(f"{self.url}{query}", proxy=None, max_size=None, **options) as socket:
            yield Peer(socket)

    @asynccontextmanager
    async def peer(self, query: str = "", **options: Any) -> AsyncIterator[Peer]:
        """Connect as somebody who is let in."""
        async with self.stranger(query, **options) as peer:
            assert (await peer.hear())["type"] == "welcome"
            yield peer


@asynccontextmanager
async def serving(
    conversations: Conversations,
    auth: Auth = OPEN_ACCESS,
    *,
    limits: Limits | None = None,
    page_port: int | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    read = load({"websocket_port": 0, **settings})
    async with WebsocketListener(
        conversations, auth, read, page_port=page_port, limits=limits
    ) as listener:
        yield Served(conversations, listener)


def said(events: list[dict[str, Any]]) -> str:
    """Return the text of the deltas."""
    return "".join(event["text"] for event in events if event["type"] == "turn.delta")

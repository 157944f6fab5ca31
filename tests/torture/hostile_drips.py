"""Connections that send a byte now and then, and never what is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from server.config.limits import HttpLimits, RpcLimits, WebsocketLimits
from tests.support.http2 import HEADERS, PREFACE, frame, greeting
from tests.support.live import Process

#: Seconds between two bytes, and those that a closing may come late.
PAUSE = 0.5
LENIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Drip:
    """What is sent at once, the byte that follows now and then, and how long that may go on."""

    port: str
    opening: bytes
    byte: bytes
    seconds: float


DRIPS: Mapping[str, Drip] = {
    "an HTTP head": Drip(
        "http", b"GET /healthz HTTP/1.1\r\nX-A: ", b"a", HttpLimits().head_seconds
    ),
    "an HTTP body": Drip(
        "http",
        b"POST /ask/drip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{",
        b" ",
        HttpLimits().body_seconds,
    ),
    "a silent HTTP connection": Drip("http", b"", b"", HttpLimits().head_seconds),
    "a websocket handshake": Drip(
        "websocket",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
        b"a",
        WebsocketLimits().handshake_seconds,
    ),
    "a preface alone": Drip("grpc", PREFACE, b"", RpcLimits().handshake_seconds),
    "half a preface": Drip("grpc", PREFACE[:9], b"", RpcLimits().handshake_seconds),
    "half a HEADERS frame": Drip(
        "grpc",
        greeting() + frame(HEADERS, bytes(8_000), stream=1)[:12],
        b"\x00",
        RpcLimits().ping_every + RpcLimits().ping_timeout,
    ),
}


class Dripping:
    """Async context manager: so many connections of every kind drip while it is open."""

    def __init__(self, server: Process, count: int) -> None:
        self._server = server
        self._count = count
        self._tasks: dict[asyncio.Task[float], str] = {}

    async def __aenter__(self) -> Dripping:
        opened = [asyncio.Event() for _ in range(self._count * len(DRIPS))]
        for number, event in enumerate(opened):
            name = list(DRIPS)[number % len(DRIPS)]
            self._tasks[asyncio.create_task(_drip(self._server, DRIPS[name], event))] = name
        await asyncio.gather(*(event.wait() for event in opened))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until_closed(self) -> list[str]:
        """Wait until each was closed; return what is wrong about that."""
        longest = max(drip.seconds for drip in DRIPS.values()) + LENIENCE
        await asyncio.wait(self._tasks, timeout=longest)
        late: dict[str, str] = {}
        for task, name in self._tasks.items():
            taken = task.result() if task.done() else longest
            if not task.done() or taken > DRIPS[name].seconds + LENIENCE:
                late[name] = f"{name} was left open for {taken:.0f} s"
        return list(late.values())


async def _drip(server: Process, drip: Drip, opened: asyncio.Event) -> float:
    """Drip until the server closes the connection; return after how many seconds it did."""
    address: str = getattr(server, drip.port)
    at = urlsplit(address if "//" in address else f"//{address}")
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    began = asyncio.get_running_loop().time()
    try:
        writer.write(drip.opening)
        opened.set()
        while await _is_open(reader):
            writer.write(drip.byte)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return asyncio.get_running_loop().time() - began


async def _is_open(reader: asyncio.StreamReader) -> bool:
    """Wait for a moment, and tell whether the connection was not closed in it."""
    try:
        async with asyncio.timeout(PAUSE):
            while await reader.read(4096):
                pass
            return False
    except TimeoutError:
        return True

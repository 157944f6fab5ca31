"""A websocket peer that writes its frames by hand (RFC 6455), right or wrong."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_MASK = b"\x01\x02\x04\x08"


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame of the server."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int | None:
        """The code that a close frame has."""
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else None


def handshake(path: str = "/", *more: str, **other: str) -> bytes:
    """Write what asks for a websocket; `other` replaces headers, an empty one leaves it out."""
    headers = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec_WebSocket_Version": "13",
        **other,
    }
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, *more, "", ""]).encode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """Write a frame; `reserved` are its three reserved bits."""
    first, mask = fin << 7 | reserved << 4 | opcode, masked << 7
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", first, mask | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", first, mask | 126, size)
    else:
        head = struct.pack(">BBQ", first, mask | 127, size)
    if not masked:
        return head + payload
    repeated = (_MASK * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + _MASK + number.to_bytes(size, "big")


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


class RawPeer:
    """One connection whose handshake is done."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *frames: bytes) -> None:
        """Send frames, each in a write of its own."""
        for data in frames:
            self._writer.write(data)
            await self._writer.drain()

    async def hear(self) -> Heard | None:
        """Read the server's next frame; None once it has closed the connection."""
        try:
            first, size = await self._reader.readexactly(2)
            assert not size & 0x80, "a server masks nothing"
            if size == 126:
                (size,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
            return Heard(first & 0x0F, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until_closed(self) -> list[Heard]:
        """Read all frames up to the end of the connection."""
        heard = []
        while (one := await self.hear()) is not None:
            heard.append(one)
        return heard


@asynccontextmanager
async def raw_peer(url: str) -> AsyncIterator[RawPeer]:
    """Connect, have the handshake answered, and read the welcome."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        writer.write(handshake(at.path))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        peer = RawPeer(reader, writer)
        welcome = await peer.hear()
        assert welcome is not None
        assert welcome.opcode == TEXT
        yield peer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()

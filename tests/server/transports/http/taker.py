"""A protocol that a connection is handed to, which shows that it has it."""

from __future__ import annotations

import asyncio


class Taker(asyncio.Protocol):
    """Says back all that it is given, once it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"taken: ")

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

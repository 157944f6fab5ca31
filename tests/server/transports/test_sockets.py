"""The sockets that servers listen on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from server.transports.sockets import listening_socket


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_is_written_leaves_at_once(host: str) -> None:
    """Nagle's algorithm would hold the second write back until the first is acknowledged."""
    delays: asyncio.Queue[int] = asyncio.Queue()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        delays.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    try:
        bound = listening_socket(host, 0)
    except OSError:
        pytest.skip(f"no {host} on this machine")
    async with await asyncio.start_server(accepted, sock=bound):
        reader, writer = await asyncio.open_connection(host, bound.getsockname()[1])
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert delays.get_nowait() == 1

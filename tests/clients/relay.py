"""A TCP relay that a test can cut, as networks do."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Relay:
    """Passes bytes on to a port, until it is told to `cut`; new connections pass again.

    `swallow` makes it deaf to what the server says once the client has said certain bytes.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallow_behind: bytes | None = None
        self._swallowing = False

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def swallow(self, behind: bytes) -> None:
        """Let no answer through once the client has sent these bytes, until the next cut."""
        self._swallow_behind = behind

    def cut(self) -> None:
        """Drop every connection."""
        self._swallow_behind, self._swallowing = None, False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _pass(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {near_out, far_out}
        for pair in ((near, far_out, True), (far, near_out, False)):
            task = asyncio.create_task(self._copy(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, from_client: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if from_client and self._swallow_behind and self._swallow_behind in data:
                    self._swallowing = True
                if from_client or not self._swallowing:
                    sink.write(data)
                    await sink.drain()
        sink.close()

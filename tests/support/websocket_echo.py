"""Our websocket listener, as it is, save that it says back what it hears: for protocol suites.

python -m tests.support.websocket_echo      prints its address, and serves until it is ended
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from server.app.core import core_of
from server.config.settings import load
from server.core.turns.plan import Defaults
from server.transports.websocket.connection import GuardedConnection
from server.transports.websocket.listener import WebsocketListener
from storage.sqlite.store import SQLiteStore
from tests.support.access import OPEN_ACCESS
from tests.support.fakes import Parrot

#: The largest messages of the suites; what we take by default is smaller.
LARGEST = 17 << 20


class Echo(WebsocketListener):
    """Does with a connection all that the listener does, and nothing with what it says."""

    async def _converse(self, connection: GuardedConnection, request: Request) -> None:
        connection.trust()
        await echo(connection)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    settings = load({"websocket_port": 0, "max_body_bytes": LARGEST})
    with tempfile.TemporaryDirectory() as folder:
        async with (
            SQLiteStore(Path(folder) / "echo.db") as store,
            core_of(store, Parrot(), Defaults("eliza")) as core,
            Echo(core, OPEN_ACCESS, settings) as listener,
        ):
            print(f"ws://127.0.0.1:{listener.port}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    asyncio.run(main())

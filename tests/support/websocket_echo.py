"""Our websockets, as they are, save that they say back what they hear: for protocol suites.

python -m tests.support.websocket_echo      prints its address, and serves until it is ended
"""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.asyncio.server import ServerConnection

from server.config.limits import WebsocketLimits
from server.transports.websocket.connection import GuardedConnection
from server.transports.websocket.endpoint import Endpoint
from tests.support.access import OPEN_ACCESS

#: The largest messages of the suites; what we take by default is smaller.
LARGEST = 17 << 20


async def echo(connection: ServerConnection) -> None:
    cast("GuardedConnection", connection).trust()
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    endpoint = Endpoint(OPEN_ACCESS, WebsocketLimits(), LARGEST)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(endpoint.serving(echo), "127.0.0.1", 0)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""The websocket listener: binds, lets peers in, and closes what it opened."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Self, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING

from server.config.limits import WebsocketLimits
from server.config.settings import Settings
from server.core.access.auth import Auth
from server.core.conversations import Conversations
from server.transports.tls import Certificate, certificate_of
from server.transports.websocket.auth import needs_key, select_subprotocol
from server.transports.websocket.connection import GuardedConnection, name_request, wire_logger
from server.transports.websocket.handshake import SWITCHING_PROTOCOLS
from server.transports.websocket.peers import Peers
from server.transports.websocket.session import Shared

BACKLOG = 1024


class WebsocketListener:
    """Async context manager: bound and serving once entered; leaving closes all with 1001."""

    def __init__(
        self,
        conversations: Conversations,
        auth: Auth,
        settings: Settings,
        *,
        page_port: int | None = None,
        tls: Certificate | None = None,
        limits: WebsocketLimits | None = None,
    ) -> None:
        """`page_port` is where the browser client is served: pages from there may come in."""
        self._limits = limits or WebsocketLimits()
        self._shared = Shared(conversations, auth, self._limits)
        self._settings = settings
        self._tls = tls or certificate_of(settings)
        self._peers = Peers(self._shared, settings.http_port if page_port is None else page_port)
        self._connections: set[GuardedConnection] = set()
        self._open = AsyncExitStack()

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return self._port

    async def __aenter__(self) -> Self:
        self._server = await self._serve()
        self._port = int(next(iter(self._server.sockets)).getsockname()[1])
        await self._open.enter_async_context(self._peers.key_watch)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
        await self._peers.last_words()
        self._server.close()
        _cut([one for one in self._connections if one.state is CONNECTING])
        closed = asyncio.ensure_future(self._server.wait_closed())
        await asyncio.wait([closed], timeout=self._limits.close_timeout)
        _cut(list(self._connections))  # they read nothing, not even that this is the end
        await closed
        await self._shared.background.stop()

    async def _serve(self) -> Server:
        return await serve(
            self._peers.receive,
            self._settings.host,
            self._settings.websocket_port,
            ssl=None if self._tls is None else self._tls.context,
            backlog=BACKLOG,
            create_connection=cast("Any", self._connection()),
            logger=wire_logger(),
            select_subprotocol=select_subprotocol,
            process_response=self._answer_handshake,
            max_size=self._settings.max_body_bytes,
            max_queue=self._limits.waiting_frames,
            open_timeout=self._limits.handshake_seconds,
            ping_interval=self._limits.ping_every,
            ping_timeout=self._limits.ping_timeout,
            close_timeout=self._limits.close_timeout,
            # Deltas are too short to gain by it, and each connection would hold 50 KiB more.
            compression=None,
            server_header=None,
        )

    def _answer_handshake(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        """Name the request, and say at once where a key is needed: programs need not wait."""
        name_request(connection, request, response)
        opens = response.status_code == SWITCHING_PROTOCOLS
        if opens and needs_key(self._shared.auth, request.headers):
            response.headers["WWW-Authenticate"] = "Bearer"

    def _connection(self) -> partial[GuardedConnection]:
        addresses = self._shared.auth.addresses
        return partial(GuardedConnection, self._limits, self._connections, addresses)


def _cut(connections: list[GuardedConnection]) -> None:
    for connection in connections:
        connection.transport.abort()

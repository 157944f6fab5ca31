"""The websocket listener: binds, lets peers in, and closes what it opened."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Self

from server.config.limits import WebsocketLimits
from server.config.settings import Settings
from server.core.access.auth import Auth
from server.core.conversations import Conversations
from server.transports.tls import Certificate, certificate_of
from server.transports.websocket.endpoint import Endpoint
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
        self.endpoint = Endpoint(auth, self._limits, settings.max_body_bytes)
        page_port = settings.http_port if page_port is None else page_port
        self._peers = Peers(self._shared, page_port, self.endpoint.staying)
        #: makes a connection; one that another port has accepted is served the same
        self.connection = self.endpoint.serving(self._peers.receive)
        self._open = AsyncExitStack()

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return self._port

    async def __aenter__(self) -> Self:
        self._server = await self._serve()
        self._port = int(self._server.sockets[0].getsockname()[1])
        await self._open.enter_async_context(self.endpoint.key_watch)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
        await self._peers.last_words()
        self._server.close()
        await self.endpoint.close()
        await self._server.wait_closed()
        await self._shared.background.stop()

    async def _serve(self) -> asyncio.Server:
        over_tls: dict[str, Any] = {}
        if self._tls is not None:
            over_tls = {
                "ssl": self._tls.context,
                "ssl_handshake_timeout": self._limits.handshake_seconds,
                "ssl_shutdown_timeout": self._limits.close_timeout,
            }
        return await asyncio.get_running_loop().create_server(
            self.connection,
            self._settings.host,
            self._settings.websocket_port,
            backlog=BACKLOG,
            **over_tls,
        )

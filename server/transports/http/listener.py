"""The HTTP listener: uvicorn inside our loop, bound and serving once entered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from server.config.limits import HttpLimits
from server.config.settings import Settings
from server.core.access.auth import Auth
from server.core.access.revocation import KeyWatch
from server.core.observability.request_log import Requests
from server.transports.http.middleware import Middleware
from server.transports.http.mount import Mount
from server.transports.http.protocol import GuardedProtocol
from server.transports.http.root_path import RootPath
from server.transports.http.upgrade import Upgrades
from server.transports.tls import Certificate, certificate_of

#: Streams have ended before we close (the core has drained): what is left gets this long.
CLOSE_SECONDS = 3
BACKLOG = 2048


class HttpListener:
    """REST, SSE, `/v1`, the page and websockets on one port."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        requests: Requests,
        auth: Auth,
        settings: Settings,
        *,
        bound: socket.socket,
        limits: HttpLimits | None = None,
        tls: Certificate | None = None,
        upgrades: Upgrades | None = None,
    ) -> None:
        """`bound` is the socket to serve on, from `listening_socket`; it is ours to close.

        Eight parameters: `tls` is shared by all ports, tests give `limits` of their own, and
        `upgrades` are what connections are handed to, which are no applications.
        """
        self._settings = settings
        self._bound = bound
        self._limits = limits or HttpLimits()
        self._addresses = auth.addresses
        self._upgrades = RootPath(settings.root_path).before(upgrades or {})
        self._tls = tls or certificate_of(settings)
        self.port: int = bound.getsockname()[1]
        self._key_watch = KeyWatch(auth, self._limits.check_keys_every)
        self._gate = Middleware(
            mounts,
            auth,
            self._key_watch,
            requests,
            settings.max_body_bytes,
            self.port,
            max_upload_bytes=settings.max_upload_bytes,
            root_path=settings.root_path,
            room=auth.room(self._limits.connections, "HTTP requests"),
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> HttpListener:
        protocol = partial(GuardedProtocol, self._limits, self._addresses, self._upgrades)
        server = _Server(_config(self._gate, self._tls, self._limits, protocol))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[self._bound])
        serving = asyncio.create_task(server.main_loop(), name="http")

        async def stop() -> None:
            serving.cancel()  # it only ticks; told to exit, it would first sleep to the next
            await asyncio.wait([serving])
            await server.shutdown(sockets=[self._bound])

        await self._stack.enter_async_context(self._key_watch)
        self._stack.push_async_callback(stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class _Server(uvicorn.Server):
    """Leaves signals alone: whoever runs the whole process has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(
    app: ASGIApp,
    tls: Certificate | None,
    limits: HttpLimits,
    protocol: Callable[..., GuardedProtocol],
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=cast("Any", protocol),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )

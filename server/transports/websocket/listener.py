"""The websocket listener: binds, lets peers in, and closes what it opened."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Self, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import CONNECTING

from server import VERSION
from server.config.limits import WebsocketLimits
from server.config.settings import Settings
from server.core.access.auth import Auth
from server.core.access.revocation import KeyWatch
from server.core.clock import microseconds
from server.core.conversations import Conversations
from server.core.errors import RateLimitedError
from server.core.ids import Ids
from server.core.observability.metrics import WIRE
from server.core.observability.request import broke
from server.transports.tls import Certificate, certificate_of
from server.transports.websocket import replies as answers
from server.transports.websocket.auth import (
    SUBPROTOCOL,
    Client,
    UnauthorizedError,
    let_in,
    select_subprotocol,
)
from server.transports.websocket.connection import GuardedConnection, name_request, wire_logger
from server.transports.websocket.errors import report
from server.transports.websocket.session import OK, Session, Shared

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
        self._page_port = settings.http_port if page_port is None else page_port
        self._ids = Ids(microseconds)
        self._key_watch = KeyWatch(auth, self._limits.check_keys_every)
        self._open = AsyncExitStack()
        self._concurrency: set[GuardedConnection] = set()
        self._room = auth.room(self._limits.connections, "websockets")
        self._peers: set[Session] = set()

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return self._port

    async def __aenter__(self) -> Self:
        self._server = await self._serve()
        self._port = int(next(iter(self._server.sockets)).getsockname()[1])
        await self._open.enter_async_context(self._key_watch)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
        await self._last_words()
        self._server.close()
        _cut([one for one in self._concurrency if one.state is CONNECTING])
        closed = asyncio.ensure_future(self._server.wait_closed())
        await asyncio.wait([closed], timeout=self._limits.close_timeout)
        _cut(list(self._concurrency))  # they read nothing, not even that this is the end
        await closed
        await self._shared.background.stop()

    async def _last_words(self) -> None:
        """Let every peer hear how its turns ended; after a drain of the core, all have."""
        streams = [stream for peer in self._peers for stream in peer.streams]
        if streams and self._shared.conversations.draining:
            await asyncio.wait(streams, timeout=self._limits.close_timeout)

    async def _serve(self) -> Server:
        return await serve(
            self._receive,
            self._settings.host,
            self._settings.websocket_port,
            ssl=None if self._tls is None else self._tls.context,
            backlog=BACKLOG,
            create_connection=cast("Any", self._connection()),
            logger=wire_logger(),
            select_subprotocol=select_subprotocol,
            process_response=name_request,
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

    def _connection(self) -> partial[GuardedConnection]:
        addresses = self._shared.auth.addresses
        return partial(GuardedConnection, self._limits, self._concurrency, addresses)

    async def _receive(self, connection: ServerConnection) -> None:
        peer, request = cast("GuardedConnection", connection), cast("Request", connection.request)
        WIRE.set("websocket")
        try:
            if peer.is_too_many:
                await peer.close(CloseCode.TRY_AGAIN_LATER, "Too many connections.")
            else:
                await self._converse(peer, request)
        except ConnectionClosed:
            return
        except UnauthorizedError as away:
            await away.close(peer)
        except RateLimitedError as error:
            await peer.close(CloseCode.TRY_AGAIN_LATER, str(error))
        except Exception as error:  # noqa: BLE001 - whatever broke, the peer is told
            report(error)
            await peer.close(CloseCode.INTERNAL_ERROR)

    async def _converse(self, connection: GuardedConnection, request: Request) -> None:
        """Let a peer in, and do what its frames say until it leaves."""
        guest = await self._guest(connection, request)
        own = guest.conversation_id or self._ids.new("conv")
        peer = Session(self._shared, connection, guest, own)
        owners = self._shared.auth.owners
        with (
            owners.within(guest.owner),
            self._room.within(guest.owner),
            self._key_watch.staying(peer),
        ):
            self._peers.add(peer)
            try:
                await connection.push(self._welcome(own))
                async for message in connection:
                    await peer.take(message)
                    # Frames that came together would else all be done before anybody else's turn.
                    await asyncio.sleep(0)
            finally:
                self._peers.remove(peer)
                await peer.leave()

    async def _guest(self, connection: GuardedConnection, request: Request) -> Client:
        """Return who a peer is; to be let in is a request of its own. Raises TurnedAwayError."""
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        requests = self._shared.conversations.requests
        with requests.within("websocket", connection.request_id, headers) as seen:
            seen.name = "open"
            try:
                guest = await let_in(
                    connection,
                    request,
                    self._shared.auth,
                    page_port=self._page_port,
                    key_timeout=self._limits.key_timeout,
                )
            except UnauthorizedError as away:
                broke(away.why)
                raise
            except ConnectionClosed:
                raise
            except Exception as error:
                broke(error)
                raise
            seen.owner, seen.status = guest.owner, OK
        return guest

    def _welcome(self, conversation_id: str) -> bytes:
        return answers.frame(
            "welcome",
            conversation_id=conversation_id,
            server="trialogue",
            version=VERSION,
            protocol=SUBPROTOCOL,
        )


def _cut(connections: list[GuardedConnection]) -> None:
    for connection in connections:
        connection.transport.abort()

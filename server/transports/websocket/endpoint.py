"""Serves websockets on connections that were accepted, by a port of their own or by another's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN

from server.config.limits import WebsocketLimits
from server.core.access.auth import Auth
from server.core.access.revocation import KeyWatch, Revocable
from server.core.errors import RateLimitedError
from server.transports.websocket.auth import needs_key, select_subprotocol
from server.transports.websocket.connection import (
    FullProtocol,
    GuardedConnection,
    name_request,
    wire_logger,
)
from server.transports.websocket.handshake import SWITCHING_PROTOCOLS

if TYPE_CHECKING:
    from websockets.asyncio.server import Server

#: Talks with a peer whose handshake is done, until one of them has enough.
Receive = Callable[[ServerConnection], Awaitable[None]]
#: Returns what a handshake is answered in place of 101, in the shape of its path; None lets it in.
Door = Callable[[ServerConnection, Request], Awaitable[Response | None]]


class Endpoint:
    """All websockets there are: bounds, number and end are common, what is talked of is not."""

    def __init__(self, auth: Auth, limits: WebsocketLimits, max_frame: int) -> None:
        self.auth = auth
        self.limits = limits
        self.is_open = True
        #: one for each connection, from its first byte to its end
        self.tasks: set[asyncio.Task[None]] = set()
        self._connections: set[GuardedConnection] = set()
        self._max_frame = max_frame
        self._logger = wire_logger()
        self._room = auth.room(limits.connections, "websockets")
        #: runs while peers are received
        self.key_watch = KeyWatch(auth, limits.check_keys_every)

    def serving(self, receive: Receive, door: Door | None = None) -> Callable[[], asyncio.Protocol]:
        """Return what makes of an accepted connection one that `receive` talks on.

        Without a `door` every peer is let in, and may show its key in the first frame.
        """
        service = _Service(self, receive, door)
        return lambda: self._connection(service)

    @contextmanager
    def staying(self, owner: str, one: Revocable) -> Iterator[None]:
        """Have a peer counted as its owner's, and told where its key is refused, in this context.

        Raises RateLimitedError for one too many.
        """
        owners, room = self.auth.owners.within(owner), self._room.within(owner)
        with owners, room, self.key_watch.staying(one):
            yield

    async def close(self) -> None:
        """Close all with 1001; whoever has not answered in time is cut."""
        self.is_open = False
        _cut([one for one in self._connections if one.state is CONNECTING])
        opened = [one for one in self._connections if one.state is OPEN]
        ending = {asyncio.create_task(one.close(CloseCode.GOING_AWAY)) for one in opened}
        if ending := ending | self.tasks:
            await asyncio.wait(ending, timeout=self.limits.close_timeout)
            _cut(list(self._connections))  # they read nothing, not even that this is the end
            await asyncio.wait(ending)

    def _connection(self, service: _Service) -> GuardedConnection:
        protocol = FullProtocol(
            select_subprotocol=select_subprotocol, max_size=self._max_frame, logger=self._logger
        )
        return GuardedConnection(
            self.limits,
            self._connections,
            self.auth.addresses,
            protocol,
            cast("Server", service),
            ping_interval=self.limits.ping_every,
            ping_timeout=self.limits.ping_timeout,
            close_timeout=self.limits.close_timeout,
            max_queue=self.limits.waiting_frames,
        )


@dataclass(frozen=True, slots=True)
class _Service:
    """What the library's `Server` is to a connection, without a port: it asks for three names."""

    endpoint: Endpoint
    receive: Receive
    door: Door | None

    @property
    def handler_tasks(self) -> set[asyncio.Task[None]]:
        return self.endpoint.tasks

    def is_serving(self) -> bool:
        return self.endpoint.is_open

    async def handler(self, connection: GuardedConnection) -> None:
        """Do the handshake, have the peer received, and leave no connection behind."""
        try:
            with suppress(TimeoutError, ConnectionClosed):  # too slow, or gone
                async with asyncio.timeout(self.endpoint.limits.handshake_seconds):
                    await connection.handshake(self._asked, self._answer, server_header=None)
            if connection.state is OPEN:
                connection.data_received(b"")  # what came behind the request is looked at now
                connection.start_keepalive()
                async with connection:
                    await self._received(connection)
        except Exception:
            connection.logger.exception("connection handler failed")
        finally:
            connection.transport.abort()
            self.endpoint.tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _asked(self, connection: ServerConnection, request: Request) -> Response | None:
        """Note what a proxy says of a handshake, and return what it is refused with."""
        peer = cast("GuardedConnection", connection)
        proxies = self.endpoint.auth.proxies
        peer.forwarded = proxies.told(peer.address, request.headers.raw_items())
        return await self.door(connection, request) if self.door is not None else None

    async def _received(self, connection: GuardedConnection) -> None:
        """Have a peer received; one too many is told to come later."""
        try:
            if connection.is_too_many:
                raise RateLimitedError("Too many connections.")
            with self.endpoint.auth.addresses.request(connection.address, connection.forwarded):
                await self.receive(connection)
        except RateLimitedError as error:
            await connection.close(CloseCode.TRY_AGAIN_LATER, str(error))

    def _answer(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Name the request, and say at once where a key is needed: programs need not wait."""
        connection.transport.resume_reading()
        name_request(connection, request, response)
        opens = self.door is None and response.status_code == SWITCHING_PROTOCOLS
        if opens and needs_key(self.endpoint.auth, request.headers):
            response.headers["WWW-Authenticate"] = "Bearer"


def _cut(connections: list[GuardedConnection]) -> None:
    for connection in connections:
        connection.transport.abort()

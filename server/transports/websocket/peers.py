"""Lets peers in, each with a conversation of its own, and does what their frames say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import cast

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request

from server import VERSION
from server.core.access.revocation import Revocable
from server.core.clock import microseconds
from server.core.errors import RateLimitedError
from server.core.ids import Ids
from server.core.observability.metrics import WIRE
from server.core.observability.request import broke
from server.transports.websocket import replies as answers
from server.transports.websocket.auth import SUBPROTOCOL, Client, UnauthorizedError, let_in
from server.transports.websocket.connection import GuardedConnection
from server.transports.websocket.errors import report
from server.transports.websocket.session import OK, Session, Shared

#: what `Endpoint.staying` is
Staying = Callable[[str, Revocable], AbstractContextManager[None]]


class Peers:
    """Those who are connected; each is received in a task of its own."""

    def __init__(self, shared: Shared, page_port: int, staying: Staying) -> None:
        """`page_port` is where the browser client is served: pages from there may come in."""
        self._shared = shared
        self._staying = staying
        self._page_port = page_port
        self._ids = Ids(microseconds)
        self._sessions: set[Session] = set()

    async def receive(self, connection: ServerConnection) -> None:
        """Let a peer in, do what it says, and close its connection."""
        peer, request = cast("GuardedConnection", connection), cast("Request", connection.request)
        WIRE.set("websocket")
        try:
            await self._converse(peer, request)
        except ConnectionClosed:
            return
        except UnauthorizedError as away:
            await away.close(peer)
        except RateLimitedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke, the peer is told
            report(error)
            await peer.close(CloseCode.INTERNAL_ERROR)

    async def _converse(self, connection: GuardedConnection, request: Request) -> None:
        """Let a peer in, and do what its frames say until it leaves."""
        guest = await self._guest(connection, request)
        own = guest.conversation_id or self._ids.new("conv")
        peer = Session(self._shared, connection, guest, own)
        with self._staying(guest.owner, peer):
            self._sessions.add(peer)
            try:
                await connection.push(self._welcome(own))
                async for message in connection:
                    await peer.take(message)
                    # Frames that came together would else all be done before anybody else's turn.
                    await asyncio.sleep(0)
            finally:
                self._sessions.remove(peer)
                await peer.leave()

    async def _guest(self, connection: GuardedConnection, request: Request) -> Client:
        """Return who a peer is; to be let in is a request of its own. Raises UnauthorizedError."""
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
                    key_timeout=self._shared.limits.key_timeout,
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

    async def last_words(self) -> None:
        """Let every peer hear how its turns ended; after a drain of the core, all have."""
        if not self._shared.conversations.draining:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._shared.limits.close_timeout):
                # Anew each time: what was asked before may begin only now.
                while streams := [one for peer in self._sessions for one in peer.streams]:
                    await asyncio.wait(streams)

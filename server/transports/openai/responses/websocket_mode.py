"""The websocket mode of `/v1/responses`: its door, and who is received behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, cast

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from server.core.access.auth import key_in
from server.core.access.proxies import Forwarded
from server.core.access.revocation import GuardedReader, Revocable
from server.core.conversations import Conversations
from server.core.errors import DrainingError, InvalidApiKeyError, InvalidRequestError
from server.openai_protocol.errors import ApiError
from server.transports.openai.errors import note, refusal
from server.transports.openai.responses import socket_frames as frames
from server.transports.openai.responses.socket_session import Shared, SocketSession, Writer

_PATH: Final = "/v1/responses"
_REQUEST_ID: Final = "x-request-id"
_OPENAI: Final = "openai"

#: has a peer counted as its owner's, and told where its key is refused
Staying = Callable[[str, Revocable], AbstractContextManager[None]]


class Connection(Writer, Protocol):
    """What a connection can do beside what the library's can."""

    request_id: str
    forwarded: Forwarded

    def trust(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Guest:
    """Whoever was let in."""

    owner: str
    alone: Callable[[], bool]


class WebsocketMode:
    """Async context manager: leaving it lets those who are connected hear how all has ended."""

    #: under `/v1`, and what clients for Azure call
    paths: Final = (_PATH, "/openai/v1/responses", "/openai/responses")

    def __init__(
        self, conversations: Conversations, shared: Shared, staying: Staying, page_port: int
    ) -> None:
        """`page_port` is where the browser client is served: pages from there may come in."""
        self._conversations = conversations
        self._shared = shared
        self._staying = staying
        self._page_port = page_port
        self._sessions: set[SocketSession] = set()

    async def __aenter__(self) -> WebsocketMode:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._conversations.draining and self._sessions:
            telling = [asyncio.create_task(one.told()) for one in self._sessions]
            await asyncio.wait(telling, timeout=self._shared.limits.close_timeout)
            for one in telling:
                one.cancel()

    async def door(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return what a handshake is refused with; None lets it in."""
        peer = cast("Connection", connection)
        given = {name.lower(): value for name, value in request.headers.raw_items()}
        with self._shared.requests.within(_OPENAI, given.get(_REQUEST_ID), given) as seen:
            seen.name, seen.method = _PATH, "GET"
            try:
                seen.owner = await self._owner(request.headers, peer.forwarded)
            except Exception as error:  # noqa: BLE001 - whatever broke, the client is told
                note(error, seen.id)
                refused = refusal(error)
                seen.status = refused.status_code
                headers = {**refused.headers, _REQUEST_ID: seen.id, "connection": "close"}
                return _response(refused.status_code, headers, bytes(refused.body))
            seen.status = HTTPStatus.SWITCHING_PROTOCOLS.value
        # Who has its answer to the handshake may send at once, and much.
        peer.trust()
        return None

    async def receive(self, connection: ServerConnection) -> None:
        """Answer a client until it leaves, or may stay no longer."""
        peer, request = cast("Connection", connection), cast("Request", connection.request)
        reader = GuardedReader(key_in(request.headers))
        try:
            owner = await self._shared.auth.owner(reader.key)
            guest = _Guest(owner, partial(self._shared.auth.alone, owner))
            with self._staying(owner, reader):
                session = SocketSession(self._shared, peer, guest, reader.key)
                self._sessions.add(session)
                try:
                    await self._converse(connection, reader, session)
                finally:
                    self._sessions.discard(session)
                    await session.leave()
        except InvalidApiKeyError as error:
            await _turn_out(connection, error, CloseCode.POLICY_VIOLATION)
        except TimeoutError:
            await _turn_out(connection, self._too_long(), CloseCode.NORMAL_CLOSURE)
        except ConnectionClosed:
            return

    async def _converse(
        self, connection: ServerConnection, reader: GuardedReader, session: SocketSession
    ) -> None:
        async with asyncio.timeout(self._shared.limits.responses_seconds):
            async for message in reader.each(aiter(connection)):
                await session.take(message)
                # Frames that came together would else all be read before anybody else's turn.
                await asyncio.sleep(0)

    async def _owner(self, headers: Headers, forwarded: Forwarded) -> str:
        """Return whose a handshake is. Raises RefusedError."""
        if self._conversations.draining:
            raise DrainingError("The server is shutting down. Please try again in a few seconds.")
        try:
            origin, host, key = headers.get("Origin"), headers.get("Host"), key_in(headers)
        except MultipleValuesError as error:
            raise InvalidRequestError(f"There is more than one {error} header.") from None
        self._shared.auth.check_origin(origin, host, self._page_port, forwarded)
        return await self._shared.auth.owner(key)

    def _too_long(self) -> ApiError:
        minutes = round(self._shared.limits.responses_seconds / 60)
        return ApiError(
            f"A connection lasts {minutes} minutes at most. Please open another.",
            code="websocket_connection_limit_reached",
        )


async def _turn_out(connection: ServerConnection, why: Exception, code: CloseCode) -> None:
    """Close a connection whose client is told why."""
    _, told = frames.error(why)
    await cast("Connection", connection).push(told)
    with suppress(ConnectionClosed):
        await connection.close(code)


def _response(status: int, headers: Mapping[str, str], body: bytes) -> Response:
    return Response(status, HTTPStatus(status).phrase, Headers(headers), body)

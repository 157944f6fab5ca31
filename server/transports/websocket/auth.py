"""Authentication of a websocket peer: by its handshake, or by its first frame."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.headers import parse_subprotocol
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from server.core.access.auth import Auth, bearer
from server.core.errors import (
    InvalidApiKeyError,
    PermissionDeniedError,
    RefusedError,
    problem_of,
)
from server.core.ids import NEW, check_id
from server.transports.websocket import replies as answers
from server.transports.websocket.connection import GuardedConnection
from server.transports.websocket.frames import AuthenticateFrame, FrameError, parse
from server.transports.websocket.replies import RequestId

SUBPROTOCOL = Subprotocol("trialogue.v1")
#: Browsers can set no header on a websocket: there the key is what follows in a subprotocol.
KEY_SUBPROTOCOL = "trialogue-api-key."
#: Bytes that a close frame has for its reason (RFC 6455, 5.5).
MOST_REASON = 123


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever was let in, with what key, and the conversation that its address names."""

    owner: str
    key: str | None = field(repr=False)
    conversation_id: str | None


class UnauthorizedError(Exception):
    """A peer that may not come in, or not stay. `told` says whether an error frame tells it why."""

    def __init__(
        self, why: RefusedError, request_id: RequestId | None = None, *, told: bool = True
    ):
        super().__init__(str(why))
        self.why = why
        self._request_id = request_id
        self._told = told

    async def close(self, connection: GuardedConnection) -> None:
        """Close the connection with 1008, not allowed in."""
        if self._told:
            problem = problem_of(self.why)
            await connection.push(answers.refusal(problem, self._request_id))
        reason = str(self.why).encode()[:MOST_REASON].decode(errors="ignore")
        await connection.close(CloseCode.POLICY_VIOLATION, reason)


def select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Select ours where it is offered; never one with a key, which would be sent back."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def needs_key(auth: Auth, headers: Headers) -> bool:
    """Say whether a handshake has shown no key where one is needed: the first frame has to."""
    try:
        return _key_shown(headers) is None and not auth.open
    except PermissionDeniedError:
        return False  # it is turned away whatever it shows


async def let_in(
    connection: GuardedConnection,
    request: Request,
    auth: Auth,
    *,
    page_port: int,
    key_timeout: float,
) -> Client:
    """Return who a peer is. Raises UnauthorizedError."""
    headers = request.headers
    try:
        origin, host = _only(headers, "Origin"), _only(headers, "Host")
        auth.check_origin(origin, host, page_port, connection.forwarded)
        key = _key_shown(headers)
    except PermissionDeniedError as error:
        raise UnauthorizedError(error, told=False) from None
    if key is not None or auth.open:
        # A peer that has its answer to the handshake may send at once, and much.
        connection.trust()
        owner = await whose(auth, key)
    else:
        key, owner = await _authenticated(connection, auth, key_timeout)
        connection.trust()
    return Client(owner, key, _conversation_named(request))


async def whose(auth: Auth, key: str | None, request_id: RequestId | None = None) -> str:
    """Return whose a key is. Raises UnauthorizedError."""
    try:
        return await auth.owner(key)
    except InvalidApiKeyError as error:
        raise UnauthorizedError(error, request_id) from None


async def _authenticated(
    connection: GuardedConnection, auth: Auth, key_timeout: float
) -> tuple[str, str]:
    """Wait for `authenticate`, and return its key and whose it is."""
    try:
        async with asyncio.timeout(key_timeout):
            message = await connection.recv()
        request_id, frame = parse(message)
    except TimeoutError:
        late = InvalidApiKeyError("No API key was shown in time.")
        raise UnauthorizedError(late, told=False) from None
    except FrameError as error:
        raise UnauthorizedError(error, error.request_id) from None
    if not isinstance(frame, AuthenticateFrame):
        missing = InvalidApiKeyError("An API key is needed: authenticate first.")
        raise UnauthorizedError(missing, request_id)
    owner = await whose(auth, frame.api_key, request_id)
    await connection.push(answers.frame("authenticated", request_id))
    return frame.api_key, owner


def _only(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    if len(values) > 1:
        raise PermissionDeniedError(f"There is more than one {name} header.")
    return values[0] if values else None


def _key_shown(headers: Headers) -> str | None:
    """Return the key that a handshake shows, by header or by subprotocol."""
    key = bearer(_only(headers, "Authorization"))
    if key is not None:
        return key
    for name in _subprotocols(headers):
        if name.startswith(KEY_SUBPROTOCOL):
            return name.removeprefix(KEY_SUBPROTOCOL)
    return None


def _subprotocols(headers: Headers) -> list[Subprotocol]:
    offered = headers.get_all("Sec-WebSocket-Protocol")
    return [name for value in offered for name in parse_subprotocol(value)]


def _conversation_named(request: Request) -> str | None:
    """Return the conversation that `?conversation_id=` names, None where a fresh one is meant."""
    named = parse_qs(request.path.partition("?")[2]).get("conversation_id", [NEW])[-1]
    if named == NEW:
        return None
    try:
        return check_id(named, "conversation_id")
    except RefusedError as error:
        raise UnauthorizedError(error) from None

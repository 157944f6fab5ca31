"""Who a websocket peer is: its handshake tells, or its first frame."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import parse_qs

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_subprotocol
from websockets.http11 import Request
from websockets.typing import Subprotocol

from server.core.doors import Doors, bearer
from server.core.errors import InvalidApiKeyError, PermissionDeniedError
from server.core.ids import NEW, check_id
from server.transports.websocket_frames import AuthenticateFrame, parse

SUBPROTOCOL = Subprotocol("trialogue.v1")
#: Browsers can set no header on a websocket: there the key is what follows in a subprotocol.
KEY_SUBPROTOCOL = "trialogue-api-key."
#: Seconds in which a key must be shown where one is needed.
KEY_TIMEOUT = 5.0


def select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Select ours where it is offered; never one with a key, which would be sent back."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def only(headers: Headers, name: str) -> str | None:
    """Return a header's value. Raises PermissionDeniedError where there are several."""
    values = headers.get_all(name)
    if len(values) > 1:
        raise PermissionDeniedError(f"More than one {name} header.")
    return values[0] if values else None


def key_shown(headers: Headers) -> str | None:
    """Return the key that a handshake shows, by header or by subprotocol."""
    key = bearer(only(headers, "Authorization"))
    if key is not None:
        return key
    for offered in headers.get_all("Sec-WebSocket-Protocol"):
        try:
            names = parse_subprotocol(offered)
        except InvalidHeaderFormat:
            return None  # the handshake fails on it with a status of its own
        for name in names:
            if name.startswith(KEY_SUBPROTOCOL):
                return name.removeprefix(KEY_SUBPROTOCOL)
    return None


def conversation_named(request: Request) -> str | None:
    """Return the `?conversation_id=` that a connection opens with, None for a fresh one."""
    named = parse_qs(request.path.partition("?")[2]).get("conversation_id", [NEW])
    if named[-1] == NEW:
        return None
    return check_id(named[-1], "conversation_id")


async def key_in_first_frame(connection: ServerConnection) -> tuple[str | None, str]:
    """Wait for `authenticate`; return its request_id and the key. Raises TimeoutError."""
    async with asyncio.timeout(KEY_TIMEOUT):
        message = await connection.recv()
    request_id, frame = parse(message)
    if not isinstance(frame, AuthenticateFrame):
        raise InvalidApiKeyError("An API key is needed: authenticate first.")
    return request_id, frame.api_key

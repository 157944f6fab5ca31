"""Upgrade: a request that asks for a websocket, and the connection handed over (RFC 9110, 7.8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

#: Where the websocket of our own frames is; others have their paths beside it.
WEBSOCKET = "/ws"

Header = tuple[bytes, bytes]
#: What makes the protocol that a connection is handed to, by path.
Upgrades = Mapping[str, Callable[[], asyncio.Protocol]]


def asks_for_websocket(headers: Iterable[Header]) -> bool:
    """Say whether a websocket is among what is offered; names of headers are in lower case."""
    offers = (value.split(b",") for name, value in headers if name == b"upgrade")
    return any(one.strip().lower() == b"websocket" for several in offers for one in several)


def body_framing(headers: Iterable[Header]) -> bytes | None:
    """Return the header that says that a body comes, and how it ends; None where none does."""
    framing = (b"content-length", b"transfer-encoding")
    found = [b": ".join(one) for one in headers if one[0] in framing]
    return next((one for one in found if one != b"content-length: 0"), None)


def hand_over(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    url: bytes,
    headers: Iterable[Header],
    ahead: bytes,
) -> None:
    """Give a connection to another protocol: the head as it was read, and what came behind it."""
    lines = (b"GET %b HTTP/1.1" % url, *map(b": ".join, headers), b"", b"")
    transport.set_protocol(protocol)  # first: what is paused from here on is its own
    protocol.connection_made(transport)
    if not transport.is_closing():  # there may be too many
        protocol.data_received(b"\r\n".join(lines) + ahead)

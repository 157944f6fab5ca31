"""uvicorn's HTTP protocol, bounded: in the size of a request's head, and by a timeout."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.config.limits import HttpLimits, room_at_the_door
from server.core.access.proxies import AddressLimit
from server.core.errors import Code, Problem
from server.transports.http.upgrade import (
    Upgrades,
    asks_for_websocket,
    body_framing,
    hand_over,
)
from server.transports.status import http_body
from server.transports.write_timeout import WriteTimeout


class GuardedProtocol(HttpToolsProtocol):
    """One HTTP/1.1 connection.

    What it counts is reset at different moments of one message, so it stands in a field each.
    """

    def __init__(
        self,
        limits: HttpLimits,
        addresses: AddressLimit,
        upgrades: Upgrades,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """`addresses` counts connections by where they come from, whichever wire they speak."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._addresses = addresses
        self._upgrades = upgrades
        self._patience = WriteTimeout(limits.patience)
        #: whether there are more connections than may be, in all or from this address
        self._is_too_many = False
        #: bytes since the last that were a body's
        self._idle_bytes = 0
        self._in_head = True
        #: bytes of the body that have come, and when its head had
        self._body_bytes, self._body_began = 0, 0.0
        self._deadline: asyncio.TimerHandle | None = None
        #: how the body is framed that httptools passes over
        self._passed_over: bytes | None = None
        #: what the connection is handed to behind this head
        self._successor: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self._limits.head_seconds)
        beyond = len(self.connections) - self._limits.connections
        beyond = max(beyond, self._addresses.enter(self._address))
        self._is_too_many = beyond > 0
        if beyond > room_at_the_door(self._limits.connections):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._patience.end()
        self._addresses.leave(self._address)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.begin(self.transport)

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._is_too_many:
            self._refuse(429, "There are too many connections; please try again in a moment.")
            return
        most = self._limits.head_bytes
        if self._in_head and self._deadline is None:
            self._expect(self._limits.head_seconds)
        self._idle_bytes += len(data)
        # A read holds 256 KiB at most, and of a body's first bytes a part may stand in it.
        if self._in_head and self._idle_bytes > most and b"\r\n\r\n" not in data[:most]:
            self._refuse(431, "The request's headers are too large.")
            return
        self._parse(data)
        # Trailers and extensions of chunks: httptools would take them without end.
        if not self._in_head and self._idle_bytes > most:
            self._refuse(431, "The request's trailers are too large.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer must not pass for a header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._body_bytes, self._body_began = 0, self.loop.time()
        self._expect(self._limits.body_seconds)
        offers = self.parser.should_upgrade()
        self._passed_over = body_framing(self.headers) if offers else None
        upgrade = self._asked_for() if offers else None
        if upgrade is not None and self._may_be_handed_over:
            self._successor = upgrade()
            return
        super().on_headers_complete()
        if upgrade is not None:
            # A proxy that does not look at our answer would pass on anything, as if it were frames.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._passed_over is not None:
            return
        self._in_head, self._idle_bytes = True, 0
        self._expect(None)
        if self._successor is None:
            super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while rest:
                rest = self._fed(rest)
        except httptools.HttpParserError:
            self._refuse(400, "This is no HTTP request.")

    def _fed(self, data: memoryview) -> memoryview:
        """Feed the parser, and return what it left behind an offer to upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            behind = data[offered.args[0] :]
            if self._successor is not None:
                self._hand_over(self._successor, bytes(behind))
                return data[:0]
            # We take no other offer, so the request is one like any other (RFC 9110, 7.8).
            if self._passed_over is not None:
                self._take_up_body(self._passed_over)
            return behind
        return data[:0]

    def _asked_for(self) -> Callable[[], asyncio.Protocol] | None:
        if not asks_for_websocket(self.headers):
            return None
        return self._upgrades.get(unquote(httptools.parse_url(self.url).path.decode()))

    @property
    def _may_be_handed_over(self) -> bool:
        """Whether this is a handshake, and nothing that is HTTP's is left to be read or written."""
        return (
            (self.parser.get_method(), self.parser.get_http_version()) == (b"GET", "1.1")
            and self._passed_over is None
            and (self.cycle is None or self.cycle.response_complete)
            # Before there was an answer it has what is TLS's.
            and (self.cycle is None or not self.transport.get_write_buffer_size())
        )

    def _hand_over(self, successor: asyncio.Protocol, ahead: bytes) -> None:
        """Leave the connection to another protocol; to HTTP it is lost, and not closed."""
        self.connection_lost(ConnectionError("handed over"))
        hand_over(self.transport, successor, self.url, self.headers, ahead)

    def _take_up_body(self, framing: bytes) -> None:
        """Parse on in a body that httptools takes for another protocol, or else for a request."""
        self._passed_over = None
        self.cycle.keep_alive = False  # the parser of a body hears of no further request
        self.parser = httptools.HttpRequestParser(_BodyEvents(self))
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        left = self._earned() if not self._in_head else 0.0
        if left > 0:
            self._expect(left)
        else:
            self.transport.abort()

    def _earned(self) -> float:
        """Return how many seconds a body still has by what has come of it."""
        earned = self._limits.body_seconds + self._body_bytes / self._limits.body_rate
        return self._body_began + earned - self.loop.time()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what never became a request, in the shape of all errors, and hang up."""
        if self._may_answer and not self.transport.is_closing():
            self.transport.write(_refusal(status, message))
        self.transport.close()

    @property
    def _may_answer(self) -> bool:
        """Whether what is written now would be read as the answer to what is refused."""
        if self.cycle is None:
            return True
        if self._in_head:
            return self.cycle.response_complete
        return not (self.cycle.response_started or self.pipeline)


class _BodyEvents:
    """Hears of a body alone, for a protocol that has the head already."""

    def __init__(self, of: GuardedProtocol) -> None:
        self.on_body = of.on_body
        self.on_message_complete = of.on_message_complete


def _refusal(status: int, message: str) -> bytes:
    code = Code.RATE_LIMIT_EXCEEDED if status == 429 else Code.INVALID_REQUEST
    body = orjson.dumps(http_body(Problem(code, message)))
    wait = b"\r\nretry-after: 1" if status == 429 else b""
    return (
        b"HTTP/1.1 %d %b%b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"x-content-type-options: nosniff\r\nx-request-id: req_%b\r\nconnection: close\r\n\r\n%b"
        % (
            status,
            HTTPStatus(status).phrase.encode(),
            wait,
            len(body),
            secrets.token_hex(12).encode(),
            body,
        )
    )

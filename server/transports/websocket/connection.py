"""A websocket connection whose peer cannot make it cost more than a bounded amount of memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidHeader
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN, Event, Protocol
from websockets.server import ServerProtocol

from server.config.limits import WebsocketLimits, room_at_the_door
from server.core.access.proxies import NOTHING, AddressLimit, Forwarded
from server.core.observability.request import request_id
from server.transports.websocket.handshake import REQUEST_ID, complete, given_id
from server.transports.write_timeout import WriteTimeout

VERSION = "Sec-WebSocket-Version"


class _AnswersFirst(Protocol):
    """Reads no frame before the handshake is answered: else a pong would be told before that."""

    def parse(self) -> Generator[None]:
        while self.state is CONNECTING and not self.reader.eof:
            yield
        yield from super().parse()


class FullProtocol(ServerProtocol, _AnswersFirst):
    """Does what the library leaves out of RFC 6455, and tells HTTP's clients in our shape."""

    def accept(self, request: Request) -> Response:
        """Tell the version that is spoken here to who speaks another (RFC 6455, 4.4)."""
        response = super().accept(request)
        wrong = self.handshake_exc
        if isinstance(wrong, InvalidHeader) and wrong.name == VERSION:
            response.status_code, response.reason_phrase = 426, "Upgrade Required"
            response.headers["Upgrade"] = "websocket"
            response.headers[VERSION] = "13"
        return response

    def recv_frame(self, frame: Frame) -> None:
        # 5.4 and 5.5: it may come between the fragments of a message; the library would tell its
        # peer 1002, a protocol error.
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)

    def send_response(self, response: Response) -> None:
        complete(response)
        super().send_response(response)


class GuardedConnection(ServerConnection):
    """Sends wait for a peer that is behind; one that never reads is cut off.

    The library alone bounds neither the pongs that it owes, nor the time that a full write buffer
    may stay full: its keepalive ping then waits in that same buffer.
    """

    def __init__(
        self,
        limits: WebsocketLimits,
        concurrency: set[GuardedConnection],
        addresses: AddressLimit,
        *args: Any,
        **settings: Any,
    ) -> None:
        """`concurrency` has every connection there is, its handshake done or not.

        `addresses` counts connections by where they come from, whichever wire they speak.
        """
        super().__init__(*args, **settings)
        self._limits = limits
        self._concurrency = concurrency
        self._addresses = addresses
        #: where the peer is
        self.address = ""
        #: what a proxy that is believed says of the handshake
        self.forwarded: Forwarded = NOTHING
        self._unread_pongs = 0
        self._patience = WriteTimeout(limits.patience)
        #: whether there are more connections than may be, in all or from this address
        self.is_too_many = False
        #: of the handshake; its answer has it
        self.request_id = ""
        self._max_frame = self.protocol.max_message_size or 0
        self.protocol.max_message_size = min(self._max_frame, limits.strangers_frame)

    def trust(self) -> None:
        """Let frames be as large as the settings say, now that the peer was let in."""
        self.protocol.max_message_size = self._max_frame

    async def push(self, text: bytes) -> bool:
        """Send one text frame once the peer keeps up; return whether it is still there."""
        try:
            while self.paused:
                await self.drain()
        except OSError:
            return False
        if self.protocol.state is not OPEN or self.transport.is_closing():
            return False
        self.protocol.send_text(text)
        self.send_data()
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._concurrency.add(self)
        self.address = (self.remote_address or ("",))[0]
        beyond = len(self._concurrency) - self._limits.connections
        beyond = max(beyond, self._addresses.enter(self.address))
        self.is_too_many = beyond > 0
        if beyond > room_at_the_door(self._limits.connections):
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        super().process_event(event)
        if self.state is CONNECTING:  # what is behind the request waits for its answer
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        unsent = self.transport.get_write_buffer_size()
        super().data_received(data)
        self._unread_pongs += max(0, self.transport.get_write_buffer_size() - unsent)
        if self._unread_pongs > self._limits.unread_pongs:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.begin(self.transport)

    def resume_writing(self) -> None:
        self._patience.end()
        self._unread_pongs = 0
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._concurrency.discard(self)
        self._addresses.leave(self.address)
        self._patience.end()
        super().connection_lost(exc)


def name_request(connection: ServerConnection, request: Request, response: Response) -> None:
    """Let a handshake and its answer have one request id: the client's own, or a new one."""
    assert isinstance(connection, GuardedConnection)  # noqa: S101 - the listener makes no other
    named = response.headers.get(REQUEST_ID)  # by a door
    connection.request_id = named or request_id(given_id(request))
    if named is None:
        response.headers[REQUEST_ID] = connection.request_id


def one_line(record: logging.LogRecord) -> bool:
    """Turn a record's traceback into the name of its exception."""
    if record.exc_info and record.exc_info[0]:
        record.msg = f"{record.getMessage()}: {record.exc_info[0].__name__}"
        record.args, record.exc_info = (), None
    return True


def wire_logger() -> logging.Logger:
    """Return a logger for the library: errors alone, in one line, and never what a frame says."""
    logger = logging.getLogger(f"{__name__}.wire")
    logger.setLevel(logging.ERROR)
    logger.addFilter(one_line)
    return logger

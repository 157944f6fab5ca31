"""uvicorn's HTTP protocol with the bounds that it lacks: on a request's head, and on its time."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.core.errors import Code, Problem
from server.transports.status import http_body

#: Largest request line and headers together, in bytes; httptools itself has no bound.
HEAD_BYTES = 64 << 10
#: A connection that sends no whole head within this time is closed (CVE-2007-6750, slow loris).
HEAD_SECONDS = 15.0
#: And so is one that takes longer than this for a body, or lets it stand still.
BODY_SECONDS = 120.0


class GuardedProtocol(HttpToolsProtocol):
    """One HTTP/1.1 connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._deadline is None:
                self._expect(HEAD_SECONDS)
            self._head_bytes += len(data)
            # A read holds 256 KiB at most, and of a body's first bytes a part may stand in it.
            if self._head_bytes > HEAD_BYTES and b"\r\n\r\n" not in data[:HEAD_BYTES]:
                self._refuse(431, "The request's headers are too large.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._expect(None)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = seconds and self.loop.call_later(seconds, self._late)  # type: ignore

    def _late(self) -> None:
        self._deadline = None
        self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what never became a request, in the shape of all errors."""
        body = orjson.dumps(http_body(Problem(Code.INVALID_REQUEST, message)))
        reason = b"Bad Request" if status == 400 else b"Request Header Fields Too Large"
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-request-id: req_%b\r\nconnection: close\r\n\r\n%b"
            % (status, reason, len(body), secrets.token_hex(12).encode(), body)
        )
        self.transport.close()

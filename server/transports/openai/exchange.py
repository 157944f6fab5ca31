"""One exchange with a client of `/v1`: whether it is there, its answer, with back-pressure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from server.core.access.revocation import GuardedReader
from server.core.errors import RefusedError
from server.openai_protocol.codec import encode
from server.openai_protocol.errors import one_line
from server.openai_protocol.stream import failure
from server.transports.openai.body import RequestBody
from server.transports.openai.errors import refusal
from server.transports.openai.request import ClientRequest
from server.upstream.bodies import EVENTS, JSON
from server.upstream.port import Reply, UpstreamError

#: Proxies must neither keep a stream nor hold it back.
_LIVE = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class Exchange:
    """One request and its one answer, cut short where the client leaves or may not stay."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = ClientRequest(scope)
        self.body = RequestBody(receive, empty=not self.request.has_body)
        self.started = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._came = time.perf_counter()
        self._task: asyncio.Task[object] | None = None
        self._reader: GuardedReader | None = None
        self._revoked: RefusedError | None = None

    @asynccontextmanager
    async def cancelled_on_disconnect(self) -> AsyncIterator[None]:
        """Cancel what is done in this context as soon as the client hangs up, and end quietly.

        Raises what the client is turned out with, if it is.
        """
        self._task = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        leaving = asyncio.create_task(self.body.left())
        left = False

        def stop(_: object) -> None:
            nonlocal left
            if self._revoked is None:
                left = True
                task.cancel()

        leaving.add_done_callback(stop)
        try:
            yield
        except asyncio.CancelledError:
            if not (left or self._revoked) or task.uncancel():
                raise
            if self._revoked:
                raise self._revoked from None
        finally:
            self._task = None
            leaving.remove_done_callback(stop)
            leaving.cancel()

    def revoke(self, why: RefusedError) -> None:
        """Answer no longer: a stream ends with the error, and what has not begun is refused."""
        if self._reader is not None:
            self._reader.revoke(why)
        elif self._task is not None and self._revoked is None and not self._task.cancelling():
            self._revoked = why
            self._task.cancel()

    async def answer(self, body: object, headers: Mapping[str, str] | None = None) -> None:
        """Answer with JSON; bytes are JSON already."""
        data = body if isinstance(body, bytes) else encode(body)
        own = {"content-type": JSON, "content-length": str(len(data))}
        await self._start(200, {**own, **(headers or {})})
        await self._send(_piece(data, more=False))

    async def refuse(self, error: BaseException) -> None:
        """Answer with an error."""
        response = refusal(error)
        self._name(response.headers)
        self.started = True
        await response(self._scope, self._receive, self._send)

    async def relay(self, reply: Reply, *, spoken: bool = False) -> None:
        """Pass a reply on, each piece of its body in one write.

        A stream whose pieces are whole events (`spoken`) ends with an error event if it breaks, or
        if its reader is turned out; any other body is cut, which its reader sees. Raises
        UpstreamError or RefusedError then.
        """
        live = reply.headers.get("content-type", "").startswith(EVENTS)
        await self._start(reply.status, {**reply.headers, **(_LIVE if live else {})})
        try:
            with self._scope["state"]["reading"]() as self._reader:
                async for piece in self._reader.each(reply.body):
                    await self._send(_piece(piece))
        except (UpstreamError, RefusedError) as error:
            if not (live and spoken):
                raise
            await self._send(_piece(_last_words(error)))
        await self._send(_piece(b"", more=False))

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        shown = dict(headers)
        self._name(shown)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.items()]
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    def _name(self, headers: Any) -> None:
        headers.setdefault("openai-processing-ms", str(self._ms()))

    def _ms(self) -> int:
        return round(1000 * (time.perf_counter() - self._came))


def _last_words(error: UpstreamError | RefusedError) -> bytes:
    """Return the event that ends a stream which cannot go on."""
    if isinstance(error, UpstreamError):
        return failure(one_line(str(error)))
    return b"data: %b\n\n" % bytes(refusal(error).body)


def _piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}

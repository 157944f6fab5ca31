"""Events as server-sent events (WHATWG HTML, section 9.2): one write an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.core.access.revocation import GuardedReader
from server.core.errors import InvalidRequestError, problem_of
from server.live.news import News
from server.transports import events as json_events
from server.transports.status import http_body

#: Line ends in Python's eyes, though not in SSE's: clients that split text there lose an event.
_ESCAPES = {char.encode(): b"\\u%04x" % ord(char) for char in "\x85\u2028\u2029"}
#: Seconds of silence before a comment shows proxies and clients that we are there.
KEEP_ALIVE_SECONDS = 15.0


def encode(event: News, *, resumable: bool = True) -> bytes:
    """Return an event as it stands on the wire; `id` of a turn's is TURN_ID:CURSOR.

    What is no turn's leaves a client the id that it had; of a stream that is not `resumable` no
    event has one.
    """
    body = json_events.event(event)
    at = f"id: {body['turn_id']}:{body['cursor']}\n" if resumable and "cursor" in body else ""
    head = f"event: {body['type']}\n{at}data: "
    data = orjson.dumps(body)
    for char, escaped in _ESCAPES.items():
        data = data.replace(char, escaped)
    return b"".join((head.encode(), data, b"\n\n"))


def position(last_event_id: str) -> tuple[str, int]:
    """Return the turn and cursor of a `Last-Event-ID`, or refuse it."""
    turn_id, _, cursor = last_event_id.rpartition(":")
    if not turn_id or not (cursor.isascii() and cursor.isdigit()) or len(cursor) > 18:
        raise InvalidRequestError("Last-Event-ID must be TURN_ID:CURSOR.", "last-event-id")
    return turn_id, int(cursor)


class EventStreamResponse(Response):
    """Streams events until they end or the client leaves; then closes them."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[News, None],
        keep_alive: float = KEEP_ALIVE_SECONDS,
        *,
        resumable: bool = True,
    ) -> None:
        """`keep_alive` is in seconds."""
        super().__init__(
            headers={"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
        )
        del self.headers["content-length"]
        self._events = events
        self._every = keep_alive
        self._resumable = resumable
        self._sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        sending = asyncio.create_task(self._send_all(scope["state"]["reading"], send))
        others = [
            asyncio.create_task(self._keep_alive(send)),
            asyncio.create_task(_gone(receive)),
        ]
        try:
            await asyncio.wait([sending, others[1]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)

    async def _send_all(
        self, reading: Callable[[], AbstractContextManager[GuardedReader]], send: Send
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with aclosing(self._events) as events:
                with reading() as reader:
                    async for event in reader.each(events):
                        await send(_chunk(encode(event, resumable=self._resumable)))
                        self._sent = loop.time()
        except Exception as error:  # noqa: BLE001 - the headers are out: it becomes an event
            body = orjson.dumps({"type": "error", **http_body(problem_of(error))})
            await send(_chunk(b"event: error\ndata: " + body + b"\n\n"))
        await send(_chunk(b"", more=False))

    async def _keep_alive(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            silent = loop.time() - self._sent
            if silent < self._every:
                await asyncio.sleep(self._every - silent)
            else:
                self._sent = loop.time()
                await send(_chunk(b": still here\n\n"))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _chunk(body: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}

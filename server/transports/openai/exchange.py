"""One request of a client of `/v1`: what it sent, whether it is still there, the way back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

from server.core.access.auth import EVERYONE
from server.core.access.revocation import GuardedReader
from server.core.errors import RefusedError
from server.core.validation import DEEPEST_JSON, depth
from server.openai_protocol import errors
from server.openai_protocol.codec import encode
from server.openai_protocol.errors import one_line
from server.openai_protocol.fields import Fields
from server.openai_protocol.stream import failure
from server.transports.openai.errors import ClientLeftError, refusal
from server.upstream.bodies import EVENTS, JSON
from server.upstream.port import Call, Reply, UpstreamError

#: Proxies must neither keep a stream nor hold it back.
_TRACKED = "x-client-request-id"
_AGAIN = "idempotency-key"
_LIVE = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class Exchange:
    """Reads one request and answers it once; paths begin behind `/v1`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        raw = scope.get("raw_path") or scope["path"].encode()
        self.raw_path = _without_doubles(raw.decode("latin-1"))
        self.path = _without_doubles(scope["path"]).rstrip("/")
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        self.owner: str = scope["state"]["owner"]
        #: says whether nobody else can come in
        self.alone: Callable[[], bool] = scope["state"]["alone"]
        #: looks at a body that was read, and returns it as it is to be sent on
        self.guard: Callable[[bytes], Awaitable[bytes]] | None = None
        #: what stands in the places of the route's `{names}`
        self.names: Mapping[str, str] = {}
        self.started = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._came = time.perf_counter()
        self._whole = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._reader: GuardedReader | None = None
        self._revoked: RefusedError | None = None
        self.has_body = (
            self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        )
        if not self.has_body:
            self._whole.set()

    @asynccontextmanager
    async def cancelled_on_disconnect(self) -> AsyncIterator[None]:
        """Cancel what is done in this context as soon as the client hangs up, and end quietly.

        Raises what the client is turned out with, if it is.
        """
        self._task = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        leaving = asyncio.create_task(self._gone())
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

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises ClientLeftError where its rest will not."""
        while not self._whole.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            if body := message.get("body"):
                yield body
            if not message.get("more_body"):
                self._whole.set()

    async def read(self) -> bytes:
        """Return the whole body; the gate bounds it."""
        body = b"".join([piece async for piece in self.pieces()])
        return body if self.guard is None else await self.guard(body)

    def call(
        self,
        path: str,
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        model: str | None = None,
        stream: bool | None = None,
    ) -> Call:
        """Return the call that this request is for an upstream.

        `stream` says whether a completion is wanted event by event; None for other calls.
        """
        headers = {_TRACKED: self._scope["state"]["request_id"], **self.headers}
        if _AGAIN in headers and self.owner != EVERYONE:
            # The upstream knows one key, and would give one owner's answer to another.
            own = f"{self.owner}\0{headers[_AGAIN]}".encode("utf-8", "surrogatepass")
            headers[_AGAIN] = hashlib.sha256(own).hexdigest()
        if stream is not None:
            headers |= {"accept": EVENTS if stream else JSON, "content-type": JSON}
        return Call(self.method, path, self._query(), headers, body, model, owner=self.owner)

    def made(self, path: str, body: dict[str, Any], *, stream: bool = False) -> Call:
        """Return a call of our own making, which stands for a part of this request."""
        headers = {_TRACKED: self._scope["state"]["request_id"], "content-type": JSON}
        headers["accept"] = EVENTS if stream else JSON
        return Call("POST", path, "", headers, encode(body), body["model"], owner=self.owner)

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

    def _query(self) -> str:
        """Return the query without the version that clients made for Azure put there."""
        pairs = self.query.split("&") if self.query else ()
        return "&".join(pair for pair in pairs if not pair.startswith("api-version="))

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

    async def _gone(self) -> None:
        """Wait until the client hangs up; while its body is read, its reader will notice."""
        await self._whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def read_json(body: bytes) -> Fields:
    """Read a request's JSON object. Raises RefusedError.

    Half a surrogate pair, which the fast parser refuses, is let through: browsers cut texts there.
    """
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            values = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise errors.unreadable() from None
    if not isinstance(values, dict):
        raise errors.unreadable()
    # Only what has so many brackets can be so deep, and few have.
    if body.count(b"[") + body.count(b"{") > DEEPEST_JSON and depth(values) > DEEPEST_JSON:
        raise errors.ApiError(f"The body is nested deeper than {DEEPEST_JSON} levels.")
    return Fields(values)


def _no_number(_: str) -> None:
    raise ValueError


def _without_doubles(path: str) -> str:
    """Return a path behind `/v1`; clients double slashes where a base URL ends in one."""
    rest = path.removeprefix("/v1")
    while "//" in rest:
        rest = rest.replace("//", "/")
    return rest


def _last_words(error: UpstreamError | RefusedError) -> bytes:
    """Return the event that ends a stream which cannot go on."""
    if isinstance(error, UpstreamError):
        return failure(one_line(str(error)))
    return b"data: %b\n\n" % bytes(refusal(error).body)


def _piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}

"""The middleware that every HTTP request passes: request id, authentication, size limits, CORS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from server.core.access.auth import Auth, key_in
from server.core.access.concurrency import Room
from server.core.access.proxies import Forwarded
from server.core.access.revocation import GuardedReader, KeyWatch
from server.core.errors import (
    Code,
    CrowdedError,
    InvalidRequestError,
    RefusedError,
    RequestTooLargeError,
    code_of,
)
from server.core.observability.request import Request
from server.core.observability.request_log import Requests
from server.transports.http import cors
from server.transports.http.mount import Mount, mount_of
from server.transports.http.root_path import RootPath
from server.transports.status import rate_headers

log = structlog.get_logger("trialogue.http")

_SECURITY: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    # Of what is no page: where one is opened in a tab all the same, it does nothing there.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "x-frame-options": "DENY",
}


class Middleware:
    """ASGI middleware around all routes: no route can forget what it does."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        auth: Auth,
        key_watch: KeyWatch,
        requests: Requests,
        max_body_bytes: int,
        port: int,
        *,
        max_upload_bytes: int | None = None,
        root_path: str = "",
        room: Room,
    ) -> None:
        """`max_upload_bytes` is for bodies that go by without being held.

        `room` has the connections on which requests of owners are answered. Nine parameters: each
        is something that every request meets here.
        """
        self._root = RootPath(root_path)
        self._room = room
        self._key_watch = key_watch
        self._mounts = mounts
        self._auth = auth
        self._requests = requests
        self._body = _Bound(max_body_bytes, "TRIALOGUE_MAX_BODY_BYTES")
        self._upload = _Bound(max_upload_bytes or max_body_bytes, "TRIALOGUE_MAX_UPLOAD_BYTES")
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        self._root.take_off(scope)
        mount = mount_of(self._mounts, scope["path"])
        with self._requests.within(mount.wire, headers.get("x-request-id"), headers) as request:
            response = _Response(scope, request, send)
            try:
                await self._pass(mount, scope, headers, receive, response)
            finally:
                response.note()

    async def _pass(
        self, mount: Mount, scope: Scope, headers: Headers, receive: Receive, response: _Response
    ) -> None:
        path, (peer, _) = scope["path"], scope["client"] or ("", 0)
        forwarded = self._auth.proxies.told(peer, headers.items())
        try:
            self._check_page(scope, headers, forwarded)
            if cors.is_preflight(scope["method"], headers):
                await cors.preflight(headers)(scope, receive, response.send)
                return
            if not path:
                await self._root.page(scope, receive, response.send)
                return
            bound = self._upload if mount.streams_past(path) else self._body
            owner = await self._let_in(mount, scope, headers, bound)
            answer = partial(mount.app, scope, _Bounded(receive, bound), response.send)
            with self._auth.addresses.request(peer, forwarded):
                if owner is None:
                    await answer()
                    return
                asker = _Asker(key_in(headers), response)
                with self._within(owner), self._key_watch.staying(asker):
                    await asker.of(answer)
        except Exception as error:
            if code_of(error) is Code.INTERNAL:
                log.exception("request broke", request_id=response.id)
            if response.started and not response.ended:
                raise  # too late for an answer: the cut shows that what was sent is not whole
            if not response.started:
                refused = mount.refuse(error)
                if isinstance(error, CrowdedError):
                    refused.headers["connection"] = "close"  # for somebody else to come in
                await refused(scope, receive, response.send)

    @contextmanager
    def _within(self, owner: str) -> Iterator[None]:
        with self._auth.owners.within(owner), self._room.within(owner):
            yield

    def _check_page(self, scope: Scope, headers: Headers, forwarded: Forwarded) -> None:
        if len(headers.getlist("host")) != 1 and scope["http_version"] != "1.0":
            raise InvalidRequestError("A request has one Host header.")  # RFC 9112, 3.2
        origin, host = headers.get("origin"), headers.get("host")
        self._auth.check_origin(origin, host, self._port, forwarded)
        scope["state"]["origin"] = origin
        scope["state"]["root_path"] = forwarded.prefix or self._root.path
        scope["scheme"] = forwarded.scheme or scope["scheme"]

    async def _let_in(
        self, mount: Mount, scope: Scope, headers: Headers, bound: _Bound
    ) -> str | None:
        scope["state"]["owner"] = owner = None
        path = scope["path"]
        if not mount.public(path):
            key = key_in(headers)
            scope["state"]["owner"] = owner = await self._auth.owner(key)
            scope["state"]["alone"] = partial(self._auth.alone, owner)
            # Streams are read in this, so that they end where the key does.
            scope["state"]["reading"] = partial(self._key_watch.reading, key)
            allowance = None if mount.free(path) else await self._auth.count(owner)
            if allowance is not None:
                scope["state"]["allowance"] = allowance
                allowance.check()
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > bound.bytes:
            raise bound.passed()
        return owner


class _Response:
    """One request on its way: names it in the response, and notes how it was answered."""

    def __init__(self, scope: Scope, request: Request, send: Send) -> None:
        self.id = request.id
        self.started = False
        self.ended = False
        self._scope = scope
        self._send = send
        self._request = request
        scope["state"]["request_id"] = request.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self._request.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
            if (allowance := self._scope["state"].get("allowance")) is not None:
                for name, value in rate_headers(allowance).items():
                    headers[name] = value
            if origin := self._scope["state"].get("origin"):
                cors.show(headers, origin)
        else:
            self.ended = not message.get("more_body")
            if self._request.first is None and not self.ended:
                self._request.first = self._request.seconds
        await self._send(message)

    def note(self) -> None:
        """Note what is known only at the end."""
        # The route, not the path: an id is the caller's own words.
        self._request.name = getattr(self._scope.get("route"), "path", None)
        self._request.method = self._scope["method"]
        self._request.owner = self._scope["state"].get("owner")


class _Asker(GuardedReader):
    """Who waits for the beginning of an answer; what has begun is told its end in its own way."""

    def __init__(self, key: str | None, passage: _Response) -> None:
        super().__init__(key)
        self._passage = passage

    def revoke(self, why: RefusedError) -> None:
        """Have what is not answered yet refused."""
        if not self._passage.started:
            super().revoke(why)


@dataclass(frozen=True, slots=True)
class _Bound:
    """How long a body may be, and the setting that says so."""

    bytes: int
    setting: str

    def passed(self) -> RequestTooLargeError:
        return RequestTooLargeError(
            f"The body is larger than {self.bytes} bytes, which {self.setting} allows."
        )


class _Bounded:
    """A request's body, refused as soon as it is longer than may be."""

    def __init__(self, receive: Receive, bound: _Bound) -> None:
        self._receive = receive
        self._bound = bound
        self._got = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            if self._got > self._bound.bytes:
                raise self._bound.passed()
        return message

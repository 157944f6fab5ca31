"""What every HTTP request passes first: request id, doors, size; and how every error looks."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.core.doors import Doors, bearer
from server.core.errors import (
    Code,
    InvalidRequestError,
    Problem,
    RequestTooLargeError,
    code_of,
    problem_of,
)
from server.core.metrics import WIRE
from server.transports.responses import JSON
from server.transports.status import http_body, http_headers, http_status

log = structlog.get_logger("trialogue.http")

#: What needs no key, by the path that was really asked for (never by a URL built from Host).
PUBLIC = frozenset(
    {"/", "/healthz", "/health", "/readyz", "/docs", "/openapi.json", "/favicon.ico"}
)
PUBLIC_FOLDER = "/web/"

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_SECURITY: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def refusal(problem: Problem) -> Response:
    """Return an error in the one shape that all have."""
    return JSON(http_body(problem), status_code=http_status(problem), headers=http_headers(problem))


class Gate:
    """ASGI middleware around all routes: no route can forget what it does."""

    def __init__(self, app: ASGIApp, doors: Doors, max_body_bytes: int, port: int) -> None:
        self._app = app
        self._doors = doors
        self._max_body_bytes = max_body_bytes
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        WIRE.set("openai" if scope["path"].startswith("/v1/") else "rest")
        headers = Headers(scope=scope)
        passage = _Passage(scope, _request_id(headers), send)
        try:
            await self._let_in(scope, headers)
            body = _Bounded(receive, self._max_body_bytes)
            await self._app(scope, body, passage.send)
        except Exception as error:
            if code_of(error) is Code.INTERNAL:
                log.exception("request broke", request_id=passage.id)
            if passage.started and not passage.ended:
                raise  # too late for an answer: the cut shows that what was sent is not whole
            if not passage.started:
                await refusal(problem_of(error))(scope, receive, passage.send)
        finally:
            passage.log()

    async def _let_in(self, scope: Scope, headers: Headers) -> None:
        if len(headers.getlist("host")) != 1 and scope["http_version"] != "1.0":
            raise InvalidRequestError("A request has one Host header.")  # RFC 9112, 3.2
        self._doors.check_origin(headers.get("origin"), headers.get("host"), self._port)
        scope["state"]["owner"] = None
        path = scope["path"]
        if path not in PUBLIC and not path.startswith(PUBLIC_FOLDER):
            scope["state"]["owner"] = await self._doors.owner(_key(headers))
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)


class _Passage:
    """One request on its way: names it in the response, and writes its line in the log."""

    def __init__(self, scope: Scope, request_id: str, send: Send) -> None:
        self.id = request_id
        self.started = False
        self.ended = False
        self._scope = scope
        self._send = send
        self._status = 0
        self._began = time.perf_counter()
        scope["state"]["request_id"] = request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
        elif not message.get("more_body"):
            self.ended = True
        await self._send(message)

    def log(self) -> None:
        route = self._scope.get("route")
        log.info(
            "request",
            wire="http",
            method=self._scope["method"],
            # The route, not the path: an id is the caller's own words.
            route=getattr(route, "path", None),
            status=self._status or None,
            owner=self._scope["state"].get("owner"),
            request_id=self.id,
            ms=round(1000 * (time.perf_counter() - self._began), 1),
        )


class _Bounded:
    """A request's body, refused as soon as it is longer than may be."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._got = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            if self._got > self._most:
                raise _too_large(self._most)
        return message


def _too_large(most: int) -> RequestTooLargeError:
    return RequestTooLargeError(
        f"The body is larger than {most} bytes, which TRIALOGUE_MAX_BODY_BYTES allows."
    )


def _key(headers: Headers) -> str | None:
    """Return the key that a request shows; OpenAI's clients for Azure send `api-key`."""
    return bearer(headers.get("authorization")) or headers.get("api-key") or None


def _request_id(headers: Headers) -> str:
    """Return the caller's own request id where it is fit to be shown, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"

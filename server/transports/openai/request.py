"""What a client of `/v1` asked for, but for the body, and the calls for upstreams made of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from starlette.types import Scope

from server.core.access.auth import EVERYONE
from server.openai_protocol.codec import encode
from server.upstream.bodies import EVENTS, JSON
from server.upstream.port import Call

_TRACKED = "x-client-request-id"
_AGAIN = "idempotency-key"


class Caller(Protocol):
    """Whoever asks, by a request or by a frame."""

    @property
    def owner(self) -> str: ...

    @property
    def alone(self) -> Callable[[], bool]:
        """Says whether nobody else can come in."""


class ClientRequest:
    """Paths begin behind `/v1`."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        raw = scope.get("raw_path") or scope["path"].encode()
        self.raw_path = _without_doubles(raw.decode("latin-1"))
        self.path = _without_doubles(scope["path"]).rstrip("/")
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        self.owner: str = scope["state"]["owner"]
        #: says whether nobody else can come in
        self.alone: Callable[[], bool] = scope["state"]["alone"]
        #: what stands in the places of the route's `{names}`
        self.names: Mapping[str, str] = {}
        self._id: str = scope["state"]["request_id"]

    @property
    def has_body(self) -> bool:
        length = self.headers.get("content-length", "0")
        return length != "0" or "transfer-encoding" in self.headers

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
        headers = {_TRACKED: self._id, **self.headers}
        if _AGAIN in headers and self.owner != EVERYONE:
            # The upstream knows one key, and would give one owner's answer to another.
            own = f"{self.owner}\0{headers[_AGAIN]}".encode("utf-8", "surrogatepass")
            headers[_AGAIN] = hashlib.sha256(own).hexdigest()
        if stream is not None:
            headers |= {"accept": EVENTS if stream else JSON, "content-type": JSON}
        query = self._query()
        return Call(self.method, path, query, headers, body, model, owner=self.owner, waits=True)

    def made(self, path: str, body: dict[str, Any], *, stream: bool = False) -> Call:
        """Return a call of our own making, which stands for a part of this request."""
        headers = {_TRACKED: self._id, "content-type": JSON}
        headers["accept"] = EVENTS if stream else JSON
        data, model = encode(body), body["model"]
        return Call("POST", path, "", headers, data, model, owner=self.owner, waits=True)

    def _query(self) -> str:
        """Return the query without the version that clients made for Azure put there."""
        pairs = self.query.split("&") if self.query else ()
        return "&".join(pair for pair in pairs if not pair.startswith("api-version="))


def _without_doubles(path: str) -> str:
    """Return a path behind `/v1`; clients double slashes where a base URL ends in one."""
    rest = path.removeprefix("/v1")
    while "//" in rest:
        rest = rest.replace("//", "/")
    return rest

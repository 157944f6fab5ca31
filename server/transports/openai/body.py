"""The body of a client's request, as it comes or whole; and the client's leaving behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
from starlette.types import Receive

from server.core.validation import DEEPEST_JSON, depth
from server.openai_protocol import errors
from server.openai_protocol.fields import Fields
from server.transports.openai.errors import ClientLeftError


class RequestBody:
    """Reads what the client sends; nobody else does."""

    def __init__(self, receive: Receive, *, empty: bool) -> None:
        #: looks at a body that was read, and returns it as it is to be sent on
        self.guard: Callable[[bytes], Awaitable[bytes]] | None = None
        self._receive = receive
        self._whole = asyncio.Event()
        self._again = b""
        if empty:
            self._whole.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises ClientLeftError where its rest will not."""
        if self._again:
            again, self._again = self._again, b""
            yield again
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

    def give_back(self, body: bytes) -> None:
        """Let a body that was read be read once more."""
        self._again = body

    async def left(self) -> None:
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

"""The requests in a batch's file, looked at before the upstream makes them in everybody's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from server.core.passthrough import Passthrough
from server.openai_protocol.errors import ApiError, missing
from server.transports.openai.exchange import Exchange
from server.transports.openai.stored_objects.ownership import Ownership
from server.transports.openai.stored_objects.references import may_name, read_once, references
from server.transports.openai.stored_objects.resources import ELSEWHERE, STATELESS
from server.transports.openai.upstream_json import refuse_bad
from server.upstream.port import Call

_LONGEST_LINE: Final = 16 << 20
#: what a request of a batch may be for: what names things in its body alone
_URLS = frozenset((*ELSEWHERE, "/responses", "/videos", *(rule.path for rule in STATELESS)))


class BatchFiles:
    """Reads a batch's file from the upstream, line by line, and never holds more than a line."""

    def __init__(self, passthrough: Passthrough, ownership: Ownership) -> None:
        self._passthrough = passthrough
        self._ownership = ownership

    async def check(
        self, exchange: Exchange, asked: Mapping[str, Any], upstream: str | None
    ) -> None:
        """Refuse a batch of which a request names what is not the caller's, or cannot be read.

        The file itself is the caller's already.
        """
        file = asked.get("input_file_id")
        if not isinstance(file, str) or not file:
            raise missing("input_file_id")
        call = Call("GET", f"/files/{file}/content", upstream=upstream)
        async with self._passthrough.call(call) as reply:
            await refuse_bad(reply)
            async for line in _lines(reply.body):
                if named := await asyncio.to_thread(_named, line):
                    await self._ownership.own(exchange.request, named)


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for piece in body:
        *ends, last = piece.split(b"\n")
        for end in ends:
            yield bytes(rest + end)
            rest.clear()
        rest += last
        if len(rest) > _LONGEST_LINE:
            raise _unreadable()
    yield bytes(rest)


def _named(line: bytes) -> dict[str, str]:
    """Return what the request of a line names. Raises RefusedError."""
    line = line.strip()
    if not line:
        return {}
    if b"\r" in line:  # where some readers begin another line
        raise _unreadable()
    try:
        request = read_once(line)
    except (ValueError, RecursionError):
        raise _unreadable() from None
    if not isinstance(request, dict) or not _makes_something(request):
        raise _unreadable()
    return references(request.get("body"), strict=True) if may_name(line) else {}


def _makes_something(request: Mapping[str, Any]) -> bool:
    """Say whether a request is for what names things in its body alone."""
    url = request.get("url")
    if request.get("method", "POST") != "POST":
        return False
    if not isinstance(url, str) or not url.startswith("/v1/"):
        return False
    return url.removeprefix("/v1") in _URLS


def _unreadable() -> ApiError:
    return ApiError(
        "The batch's file has a line that is no request which can be told to be yours alone.",
        "input_file_id",
        "invalid_value",
    )

"""Bodies of calls and replies: what kinds there are, and how one is read in part or whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Final

from server.upstream.port import UpstreamError, UpstreamFailedError

EVENTS: Final = "text/event-stream"
JSON: Final = "application/json"


async def start_of(body: AsyncIterator[bytes], most: int) -> bytes:
    """Return as much of a body as there is, and no more than that; what broke it is its end."""
    data = bytearray()
    with suppress(UpstreamError):
        async for piece in body:
            data += piece
            if len(data) >= most:
                break
    return bytes(data[:most])


async def whole(body: AsyncIterator[bytes], most: int) -> bytes:
    """Return a whole body. Raises UpstreamFailedError for one that is longer."""
    data = bytearray()
    async for piece in body:
        data += piece
        if len(data) > most:
            raise UpstreamFailedError(f"the upstream's answer is longer than {most} bytes")
    return bytes(data)


async def one(data: bytes) -> AsyncIterator[bytes]:
    """Yield a body that is there in one piece."""
    yield data


async def after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for event in rest:
        yield event


class SingleUseBody:
    """A body that can be read once; says whether that has begun."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        return aiter(self._body)

    async def __anext__(self) -> bytes:
        return await anext(self._body)

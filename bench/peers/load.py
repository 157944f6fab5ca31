"""Callers that ask as soon as they were answered, by raw HTTP/1.1, and what they saw."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

_ENDED: Final = b"\r\n0\r\n\r\n"
_ID: Final = re.compile(rb'"id":\s?"(resp_[^"]+)"')


@dataclass(slots=True)
class Seen:
    """What callers saw: seconds until the first token and until the end of each exchange."""

    seconds: float = 0.0
    firsts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    @property
    def exchanges(self) -> int:
        return len(self.ends)

    def percentile(self, share: float, of: Sequence[float]) -> float:
        """Return a percentile in milliseconds."""
        return 1000 * sorted(of)[min(len(of) - 1, int(share * len(of)))]

    @property
    def first_p50(self) -> float:
        return 1000 * statistics.median(self.firsts)


class Caller(asyncio.Protocol):
    """One connection, on which one request waits for its answer at a time."""

    def __init__(self, first: bytes, last: bytes) -> None:
        """What the first token of an answer has, and what its last."""
        self._first_token, self._last_token = first, last
        self._answer: list[bytes] = []
        self._tail = b""
        self._length: int | None = None
        self._got = 0
        self._first: float | None = None
        self._done: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes, seen: Seen) -> bytes:
        """Send a request, note what was seen, and return the answer."""
        self._answer, self._tail, self._length, self._got, self._first = [], b"", None, 0, None
        self._done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._transport.write(request)
        answer = await self._done
        ended = time.perf_counter()
        if b" 200 " not in answer[:16] or self._last_token not in answer:
            raise RuntimeError(answer.decode(errors="replace")[:600])
        seen.firsts.append((self._first or ended) - began)
        seen.ends.append(ended - began)
        return answer

    def data_received(self, data: bytes) -> None:
        if self._first is None and self._first_token in data:
            self._first = time.perf_counter()
        if not self._answer:
            head, _, _ = data.lower().partition(b"\r\n\r\n")
            _, found, behind = head.partition(b"content-length:")
            if found:
                self._length = len(head) + 4 + int(behind.partition(b"\r\n")[0])
        self._answer.append(data)
        self._got += len(data)
        self._tail = (self._tail + data)[-len(_ENDED) :]
        over = self._tail == _ENDED if self._length is None else self._got >= self._length
        if over and self._done is not None and not self._done.done():
            self._done.set_result(b"".join(self._answer))


def request(url: str, path: str, body: bytes, *headers: str) -> bytes:
    """Return a POST of JSON as it goes over a connection."""
    own = "".join(f"{line}\r\n" for line in headers)
    head = f"POST {path} HTTP/1.1\r\nhost: {url.partition('://')[2]}\r\n{own}"
    return (
        f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )


def response_id(answer: bytes) -> str:
    """Return the id of the response that an answer tells."""
    found = _ID.search(answer)
    assert found is not None, answer[:600]
    return found[1].decode()


async def load(
    url: str,
    callers: int,
    seconds: float,
    next_request: Callable[[int, bytes | None], bytes],
    first: bytes,
    last: bytes,
) -> Seen:
    """Have so many callers ask one behind the other for so long; `next_request(caller, answer)`."""
    host, _, port = url.partition("://")[2].partition(":")
    loop = asyncio.get_running_loop()
    seen = Seen()
    lines = [
        (await loop.create_connection(lambda: Caller(first, last), host, int(port)))[1]
        for _ in range(callers)
    ]

    async def call(number: int) -> None:
        answer: bytes | None = None
        while time.perf_counter() < until:
            answer = await lines[number].ask(next_request(number, answer), seen)

    try:
        began = time.perf_counter()
        until = began + seconds
        await asyncio.gather(*map(call, range(callers)))
        seen.seconds = time.perf_counter() - began
        return seen
    finally:
        for line in lines:
            line._transport.close()

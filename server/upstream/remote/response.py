"""Read one answer of an upstream from its open response, to be passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from server.config.limits import ReplyLimits
from server.openai_protocol import codec, normalize, response
from server.openai_protocol.errors import refusal, shaped
from server.openai_protocol.expectations import expectations_of
from server.openai_protocol.sse import Cutter, OversizedEventError
from server.openai_protocol.stream import StreamNormalizer
from server.openai_protocol.usage import UsageCounter
from server.upstream.bodies import EVENTS, JSON, after, one, start_of, whole
from server.upstream.port import (
    Call,
    Reply,
    UpstreamError,
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.bounds import Bounds, Length
from server.upstream.remote.errors import stream_error
from server.upstream.remote.headers import kept
from server.upstream.remote.read_timeout import ReadTimeout
from server.upstream.remote.redaction import Clean

#: the calls whose answers are looked at, and what object each is
SPOKEN: Final = {"/chat/completions": "chat.completion", "/completions": normalize.TEXT}
#: everything that aiohttp raises where an exchange breaks
BREAKS = (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError)
_REFUSAL_BYTES: Final = ReplyLimits().refusal_bytes
#: how long the end of a body is waited for, so that the connection can be used again
_DRAIN = 0.1


class UpstreamResponse:
    """An answer whose head is there; whoever has one leaves it.

    Moments are of the running loop's clock: it `began` when the call had been sent, and something
    must come until `first_by`. Comments are no sign of life, only events with data are.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        bounds: Bounds,
        clean: Clean,
        began: float,
        first_by: float,
    ) -> None:
        now = asyncio.get_running_loop().time()
        self._response = response
        self._bounds = bounds
        self._clean = clean
        self._patience = ReadTimeout(began + bounds.total - now, response.close)
        self._patience.renew(first_by - now)
        self._open: list[AsyncGenerator[bytes, None]] = []
        self._finished = False

    async def reply(self, call: Call) -> Reply:
        """Return what to pass on; for a completion once its first event, or all of it, is there."""
        status, headers = self._response.status, kept(self._response.headers)
        if status >= 400:
            return await self._refusal(status, headers)
        if not 200 <= status < 300:
            raise UpstreamFailedError("the upstream answered with a redirect, or with no answer")
        if self._response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UpstreamFailedError("the upstream compressed its answer, which was not asked for")
        if call.method != "POST" or call.path not in SPOKEN:
            return Reply(status, headers, self._opened(self._bytes(renewing=True)))
        headers.pop("content-length", None)
        if call.headers.get("accept") == EVENTS:
            return await self._begun(status, headers, call)
        return await self._answer(status, headers, call)

    async def leave(self) -> None:
        """Hang up, unless the answer has been read to its end."""
        for body in reversed(self._open):
            await body.aclose()
        if self._finished and not self._response.content.at_eof():
            with suppress(*BREAKS):
                async with asyncio.timeout(_DRAIN):
                    while await self._response.content.readany():
                        pass
        self._patience.end()
        self._response.close()

    async def _refusal(self, status: int, headers: dict[str, str]) -> Reply:
        if status > 599:
            raise UpstreamFailedError(f"the upstream answered with status {status}")
        async with aclosing(self._bytes(renewing=True)) as body:
            data = await start_of(body, _REFUSAL_BYTES)
        return self._refused(status, headers, refusal(status, data, self._clean))

    def _refused(self, status: int, headers: dict[str, str], data: bytes) -> Reply:
        shown = {name: self._clean(value) for name, value in headers.items()}
        return _in_one(status, shown, data)

    async def _answer(self, status: int, headers: dict[str, str], call: Call) -> Reply:
        """Read a whole answer, which is never passed on in part."""
        self._expect(JSON)
        async with aclosing(self._bytes(renewing=True)) as body:
            data = await whole(body, self._bounds.answer_bytes)
        said, good = codec.parse(data)
        if error := said.get("error"):
            status = _status_of(stream_error(error, self._clean))
            return self._refused(status, headers, refusal(status, data, self._clean))
        head = normalize.Head(SPOKEN[call.path], call.model or "")
        told = response.fit(data, said, head, good=good)
        for choice in said["choices"]:
            Length(self._bounds.answer_chars).add(response.text_of(choice))
        if said.get("usage") is None:
            said["usage"] = await _said_in(said["choices"]).usage(call)
            told = codec.encode(said)
        return _in_one(status, headers, told)

    async def _begun(self, status: int, headers: dict[str, str], call: Call) -> Reply:
        """Return the stream's events once the first is there; one of nothing else is a refusal."""
        self._expect(EVENTS)
        chat = SPOKEN[call.path] != normalize.TEXT
        chunks = StreamNormalizer(
            call.model or "",
            self._clean,
            chat=chat,
            expected=expectations_of(call),
            most=self._bounds.answer_chars,
        )
        events = self._opened(self._events(chunks, call))
        first = await anext(events)
        if chunks.error is None:
            return Reply(status, headers, self._opened(after(first, events)))
        status = _status_of(stream_error(chunks.error, self._clean))
        error = shaped(chunks.error, self._clean, status)
        return self._refused(status, headers, codec.encode({"error": error}))

    def _opened(self, body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._open.append(body)
        return body

    async def _events(self, chunks: StreamNormalizer, call: Call) -> AsyncGenerator[bytes, None]:
        """Yield whole events until the last one; raise where the stream broke before it."""
        last = b""
        try:
            async with aclosing(self._cut()) as events:
                async for event in events:
                    said = chunks.take(event)
                    if chunks.over:
                        self._finished = True
                        last = said
                        break
                    if said:
                        yield said
                        bounds = self._bounds
                        self._patience.renew(bounds.linger if chunks.settled else bounds.between)
        except UpstreamError:
            if not chunks.whole:
                raise
        last = last or chunks.close()
        if (counter := chunks.uncounted) is not None:
            yield chunks.usage(await counter.usage(call))
        yield last

    async def _cut(self) -> AsyncGenerator[bytes, None]:
        cutter = Cutter(self._bounds.event_bytes)
        try:
            async with aclosing(self._bytes()) as body:
                async for data in body:
                    for event in cutter.feed(data):
                        yield event
        except OversizedEventError:
            raise UpstreamFailedError("the upstream sent an event that is too long") from None
        for event in cutter.close():
            yield event

    async def _bytes(self, *, renewing: bool = False) -> AsyncGenerator[bytes, None]:
        """Yield the body's bytes as they come; the time for them stands while nobody waits."""
        content, patience = self._response.content, self._patience
        try:
            while True:
                patience.waiting()
                data = await content.readany()
                patience.resting()
                if not data:
                    return
                if renewing:
                    patience.renew(self._bounds.between)
                yield data
        except BREAKS:
            if patience.late:
                raise UpstreamTimeoutError("the upstream fell silent") from None
            raise UpstreamFailedError("the upstream's answer was cut off") from None

    def _expect(self, kind: str) -> None:
        found = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if found != kind:
            what = "an event stream" if kind == EVENTS else "JSON"
            raise UpstreamFailedError(f"the upstream's answer is not {what}")


def _in_one(status: int, headers: dict[str, str], data: bytes) -> Reply:
    own = {"content-type": JSON, "content-length": str(len(data))}
    if status == 401:
        own["www-authenticate"] = "Bearer"
    return Reply(status, {**headers, **own}, one(data))


def _said_in(choices: list[dict[str, Any]]) -> UsageCounter:
    counter = UsageCounter()
    for choice in choices:
        counter.add(choice["index"], choice.get("message") or choice)
    return counter


def _status_of(error: UpstreamError) -> int:
    match error:
        case UpstreamRejectedError(status=status):
            return status
        case UpstreamRateLimitedError():
            return 429
        case _:
            return 502

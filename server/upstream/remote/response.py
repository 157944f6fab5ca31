"""Read one answer of an upstream from its open response, to be passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from server.config.limits import ReplyLimits
from server.openai_protocol import codec, normalize, response
from server.openai_protocol.codec import MalformedError
from server.openai_protocol.echo import Echo
from server.openai_protocol.errors import (
    Clean,
    Complaint,
    complaint_in,
    complaint_of,
    refusal,
    shaped,
)
from server.openai_protocol.expectations import Expectations, expectations_of
from server.openai_protocol.response import Most
from server.openai_protocol.sse import Cutter, OversizedEventError, data_of, joined
from server.openai_protocol.stream import StreamNormalizer, chunks_of
from server.openai_protocol.usage import UsageCounter
from server.upstream.bodies import EVENTS, JSON, after, one, start_of, whole
from server.upstream.errors import status_of, stream_error
from server.upstream.port import (
    Call,
    Reply,
    UpstreamBrokeError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.headers import kept
from server.upstream.remote.read_timeout import ReadTimeout

#: the calls whose answers are looked at, and what object each is
SPOKEN: Final = {"/chat/completions": "chat.completion", "/completions": normalize.TEXT}
#: everything that aiohttp raises where an exchange breaks
BREAKS = (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError)
_REFUSAL_BYTES: Final = ReplyLimits().refusal_bytes
#: how long the end of a body is waited for, so that the connection can be used again
_DRAIN = 0.1
_CUT_OFF = "the upstream's answer was cut off"


class UpstreamResponse:
    """An answer whose head is there; whoever has one leaves it.

    Moments are of the running loop's clock: all of it must be there at `end`, and something
    at `first_by`. Comments are no sign of life, only events with data are, save where the bounds
    say that they count.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        bounds: Bounds,
        clean: Clean,
        end: float,
        first_by: float,
    ) -> None:
        now = asyncio.get_running_loop().time()
        self._response = response
        self._bounds = bounds
        self._clean = clean
        self._patience = ReadTimeout(end - now, response.close)
        self._patience.renew(first_by - now)
        self._open: list[AsyncGenerator[bytes, None]] = []
        self._finished = False
        self._complaints: list[Complaint] = []

    async def reply(self, call: Call) -> Reply:
        """Return what to pass on; for a completion once its first event, or all of it, is there."""
        with _readable():
            return await self._reply(call)

    async def _reply(self, call: Call) -> Reply:
        status, headers = self._response.status, kept(self._response.headers)
        if status >= 400:
            return await self._refusal(status, headers)
        if not 200 <= status < 300:
            raise UpstreamFailedError("the upstream answered with a redirect, or with no answer")
        if self._response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UpstreamFailedError("the upstream compressed its answer, which was not asked for")
        if call.method != "POST" or call.path not in SPOKEN:
            return Reply(status, headers, self._opened(self._bytes(self._bounds.between)))
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
        async with aclosing(self._bytes(self._bounds.linger)) as body:
            self._patience.renew(self._bounds.linger)
            data = await start_of(body, _REFUSAL_BYTES)
        self._complaints.append(complaint_in(data, self._clean))
        return self._refused(status, headers, refusal(status, data, self._clean))

    def _refused(self, status: int, headers: dict[str, str], data: bytes) -> Reply:
        shown = {name: self._clean(value) for name, value in headers.items()}
        return self._in_one(status, shown, data)

    async def _answer(self, status: int, headers: dict[str, str], call: Call) -> Reply:
        """Read a whole answer, which is never passed on in part."""
        self._expect(JSON)
        said, data = await self._whole(call)
        if error := said.get("error"):
            return self._told(error, headers, data)
        counts = said.get("usage") is None
        if counts:
            said["usage"] = await self._count(_said_in(said["choices"]), call)
        if self._echo(said, call) or counts:
            data = codec.encode(said)
        return self._in_one(status, headers, data)

    async def _begun(self, status: int, headers: dict[str, str], call: Call) -> Reply:
        """Return the stream's events once the first is there; one of nothing else is a refusal."""
        if self._kind == JSON:  # a server that does not stream has all of it now
            return await self._begun_whole(status, headers, call)
        self._expect(EVENTS)
        chat = SPOKEN[call.path] != normalize.TEXT
        chunks = StreamNormalizer(
            call.model or "",
            self._clean,
            chat=chat,
            expected=_expected(call),
            most=self._bounds.most,
            counted=call.counted,
        )
        events = self._opened(self._events(chunks, call))
        first = await anext(events)
        if chunks.error is None or chunks.begun:
            begun = self._opened(after(first, events))
            return Reply(status, headers, begun, complaints=self._complaints)
        return self._told(chunks.error, headers)

    async def _begun_whole(self, status: int, headers: dict[str, str], call: Call) -> Reply:
        said, data = await self._whole(call)
        if error := said.get("error"):
            return self._told(error, headers, data)
        if said.get("usage") is None and call.counted:
            said["usage"] = await self._count(_said_in(said["choices"]), call)
        self._echo(said, call)
        events = _each(chunks_of(said, _expected(call)))
        return Reply(status, {**headers, "content-type": EVENTS}, events)

    async def _whole(self, call: Call) -> tuple[dict[str, Any], bytes]:
        """Return an answer in one piece, and its bytes: fit for OpenAI's types, or an error."""
        async with aclosing(self._bytes(self._bounds.between)) as body:
            data = await whole(body, self._bounds.answer_bytes)
        head = normalize.Head(SPOKEN[call.path], call.model or "")
        # Not on the loop: a long answer takes seconds to look at.
        return await asyncio.to_thread(_fit, data, head, self._bounds.most)

    def _echo(self, said: dict[str, Any], call: Call) -> bool:
        """Put the prompt before a whole text that was to echo it; say whether it was not there."""
        if SPOKEN[call.path] != normalize.TEXT:
            return False
        echo = Echo(_expected(call), self._bounds.answer_chars)
        return bool(echo) and echo.mend_all(said["choices"])

    def _told(self, error: object, headers: dict[str, str], data: bytes = b"") -> Reply:
        """Return the refusal that an answer is which was good but for what it says."""
        complaint = complaint_of(error, self._clean)
        self._complaints.append(complaint)
        status = status_of(stream_error(complaint))
        body = codec.encode({"error": shaped(error, self._clean, status)})
        return self._refused(status, headers, refusal(status, data, self._clean) if data else body)

    async def _count(self, counter: UsageCounter, call: Call) -> dict[str, int]:
        return await asyncio.to_thread(counter.usage, call.path, call.model or "", _held(call))

    def _in_one(self, status: int, headers: dict[str, str], data: bytes) -> Reply:
        own = {"content-type": JSON, "content-length": str(len(data))}
        if status == 401:
            own["www-authenticate"] = "Bearer"
        return Reply(status, {**headers, **own}, one(data), complaints=self._complaints)

    def _opened(self, body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._open.append(body)
        return body

    async def _events(self, chunks: StreamNormalizer, call: Call) -> AsyncGenerator[bytes, None]:
        """Yield whole events until the last one; raise where the stream broke before it.

        Those that came together are yielded together, save the last.
        """
        last = b""
        try:
            async with aclosing(self._cut()) as reads:
                async for events in reads:
                    said, broken = self._judge(events, chunks)
                    if chunks.over:
                        last = said.pop()
                    for piece in joined(said):
                        yield piece
                    if broken is not None:
                        raise broken
                    if chunks.over:
                        self._finished = True
                        break
        except UpstreamError:
            if not chunks.whole:
                raise
        if not last and not chunks.whole:
            raise UpstreamBrokeError(_CUT_OFF)
        last = last or chunks.close()
        if (counter := chunks.uncounted) is not None:
            yield chunks.usage(await self._count(counter, call))
        yield last

    def _judge(
        self, events: Sequence[bytes], chunks: StreamNormalizer
    ) -> tuple[list[bytes], UpstreamFailedError | None]:
        """Return what to pass on of events that came together, and what broke them off."""
        told: list[bytes] = []
        for event in events:
            try:
                said = chunks.take(event)
            except MalformedError as error:
                return told, UpstreamFailedError(str(error))
            if said:
                told.append(said)
            if chunks.error is not None:
                self._complaints.append(complaint_of(chunks.error, self._clean))
            if chunks.over:
                break
            if said or self._is_life(event, chunks):
                self._renew(chunks)
        return told, None

    def _is_life(self, event: bytes, chunks: StreamNormalizer) -> bool:
        """Say whether an event of which nothing is passed on shows that the upstream is at work."""
        if chunks.reading and data_of(event):
            return True
        return self._bounds.comments_count and chunks.begun and not chunks.settled

    def _renew(self, chunks: StreamNormalizer) -> None:
        """Grant the time until the next event."""
        bounds = self._bounds
        if chunks.reading:  # the first word is to come
            self._patience.renew(bounds.first_byte)
        else:
            linger = min(bounds.linger, bounds.between)
            self._patience.renew(linger if chunks.settled else bounds.between)

    async def _cut(self) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the whole events of each read."""
        cutter = Cutter(self._bounds.event_bytes)
        try:
            async with aclosing(self._bytes()) as body:
                async for data in body:
                    yield cutter.feed(data)
        except OversizedEventError:
            raise UpstreamFailedError("the upstream sent an event that is too long") from None
        # What is not whole shows that the stream was cut within it.
        yield [event for event in cutter.close() if _is_whole(event)]

    async def _bytes(self, each: float | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the body's bytes as they come; the time for them stands while nobody waits."""
        content, patience = self._response.content, self._patience
        try:
            while True:
                patience.waiting()
                data = await content.readany()
                patience.resting()
                if not data:
                    return
                if each is not None:
                    patience.renew(each)
                yield data
        except BREAKS:
            if patience.late:
                raise UpstreamTimeoutError("the upstream fell silent") from None
            raise UpstreamBrokeError(_CUT_OFF) from None

    @property
    def _kind(self) -> str:
        told: str = self._response.headers.get("content-type", "")
        return told.partition(";")[0].strip().lower()

    def _expect(self, kind: str) -> None:
        if self._kind != kind:
            what = "an event stream" if kind == EVENTS else "JSON"
            raise UpstreamFailedError(f"the upstream's answer is not {what}")


@contextmanager
def _readable() -> Iterator[None]:
    """Name what cannot be read as a failure of the upstream."""
    try:
        yield
    except MalformedError as error:
        raise UpstreamFailedError(str(error)) from None


def _fit(data: bytes, head: normalize.Head, most: Most) -> tuple[dict[str, Any], bytes]:
    """Return an answer in one piece, and its bytes; see UpstreamResponse._whole."""
    said, good = most.parse(data)
    if said.get("error"):
        return said, data
    return said, response.fit(data, said, head, good=good, most=most)


async def _each(events: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for event in events:
        yield event


def _is_whole(event: bytes) -> bool:
    data = data_of(event)
    if data.startswith(b"[DONE]"):
        return True
    with suppress(MalformedError):
        codec.parse(data)
        return True
    return False


def _expected(call: Call) -> Expectations:
    found = expectations_of(call.path, _held(call))
    return replace(found, echoed=call.echoed) if call.echoed else found


def _held(call: Call) -> bytes:
    return call.body if isinstance(call.body, bytes) else b""


def _said_in(choices: list[dict[str, Any]]) -> UsageCounter:
    counter = UsageCounter()
    for choice in choices:
        counter.add(choice["index"], choice.get("message") or choice)
    return counter

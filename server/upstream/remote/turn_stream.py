"""Read one answer of an OpenAI-compatible server from its open response, as pieces of text."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import orjson

from server.openai_protocol.finish_reason import ending
from server.openai_protocol.sse import Cutter, OversizedEventError, data_of
from server.openai_protocol.surrogates import Letters, word
from server.openai_protocol.usage_fields import usage_of
from server.upstream.port import Finish, UpstreamError, UpstreamFailedError, UpstreamTimeoutError
from server.upstream.remote.bounds import Bounds, Length
from server.upstream.remote.errors import BREAKS, UpstreamBrokeError, stream_error
from server.upstream.remote.read_timeout import Limit
from server.upstream.remote.redaction import Clean
from storage.model import Usage

#: how long the end of the body is waited for, so that the connection can be used again
_DRAIN = 0.1
_TEXT = (str, type(None))
_CUT_OFF = "the upstream's answer was cut off"
_UNREADABLE = "the upstream sent something that cannot be read"


class WholeBody:
    """Hold a body that is one document until it has ended; shaped like Cutter."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; nothing is complete before the end."""
        if len(self._body) + len(data) > self._limit:
            raise OversizedEventError(f"the body is longer than {self._limit} bytes")
        self._body += data
        return []

    def close(self) -> list[bytes]:
        """Return the document."""
        return [bytes(self._body)]


class Answer:
    """An answer that is being received; whoever has one closes it.

    Moments are of the running loop's clock: `deadline` is the last one for the whole answer.
    Comments are no sign of life: only events with data are.
    """

    def __init__(
        self,
        response: httpx2.Response,
        bounds: Bounds,
        clean: Clean,
        deadline: float,
        *,
        continuation: bool = False,
    ) -> None:
        self._response = response
        self._bytes: AsyncGenerator[bytes, None] = response.aiter_raw()
        self._bounds = bounds
        self._clean = clean
        self._deadline = deadline
        self._by = math.inf
        self._again = bounds.first_byte
        self._streamed = True
        self._events: Cutter | WholeBody = Cutter(bounds.event_bytes)
        self._letters = Letters()
        self._bare = not continuation
        self._pieces: list[str] = []
        self._length = Length(bounds.answer_chars)
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._done = self._over = False
        self._error: UpstreamError | None = None

    @property
    def finish(self) -> Finish:
        """Say how the answer ended; meant for an answer without pieces left."""
        return Finish(self._reason or "stop", self._usage)

    async def begin(self, first_by: float) -> None:
        """Wait for the first piece, the first event until `first_by`; or for an end without any."""
        self._streamed = _is_stream(self._response)
        if self._streamed:
            self._by = first_by
        else:
            self._events = WholeBody(self._bounds.answer_bytes)
        await self._fill()

    async def pieces(self) -> list[str]:
        """Wait for the next pieces, none of them empty; no piece at all means that it is whole."""
        self._be_patient()
        await self._fill()
        pieces, self._pieces = self._pieces, []
        return pieces

    async def _fill(self) -> None:
        while not (self._pieces or self._over):
            await self._advance()
        if self._error is not None and not self._pieces:
            raise self._error

    async def drain(self) -> None:
        """Read the rest of the body if it is there, so that the connection can be used again."""
        with contextlib.suppress(*BREAKS):
            async with asyncio.timeout(_DRAIN):
                async for _ in self._bytes:
                    pass

    async def close(self) -> None:
        """Hang up, unless the body has been read to its end."""
        with contextlib.suppress(*BREAKS):
            await self._bytes.aclose()
            await self._response.aclose()

    async def _advance(self) -> None:
        """Take one read's worth; what fails after a piece is kept until that piece is given."""
        try:
            data = await self._read()
            if data is None:
                self._end()
            else:
                self._take(data)
        except OversizedEventError:
            self._break(UpstreamFailedError("the upstream sent an event that is too long"))
        except UpstreamError as error:
            self._break(error)

    def _break(self, error: UpstreamError) -> None:
        self._error = error
        self._over = True

    async def _read(self) -> bytes | None:
        """Return the next bytes, None at the end; a break after the last word is an end."""
        try:
            async with Limit(min(self._by, self._deadline), self._again) as limit:
                data = await anext(self._bytes, None)
            self._by, self._deadline = max(self._by, limit.by), max(self._deadline, limit.by)
            return data
        except BREAKS:
            if self._reason is not None:
                return None
            if limit.expired():
                raise self._late() from None
            raise UpstreamBrokeError(_CUT_OFF) from None

    def _late(self) -> UpstreamTimeoutError:
        if self._deadline <= self._by:
            return UpstreamTimeoutError("the upstream did not finish its answer in time")
        return UpstreamTimeoutError("the upstream fell silent")

    def _take(self, data: bytes) -> None:
        events = [data_of(event) for event in self._events.feed(data)]
        for said in events:
            self._digest(said)
            if self._done:
                self._finish()
                return
        if any(events):
            self._be_patient()

    def _be_patient(self) -> None:
        """Start the wait for the next event anew; a body that is one document has no events."""
        if self._streamed:
            wait = self._bounds.between
            if self._reason is not None:
                wait = min(wait, self._bounds.linger)
            self._by, self._again = asyncio.get_running_loop().time() + wait, wait

    def _end(self) -> None:
        rest = self._events.close()
        if self._streamed:
            with contextlib.suppress(_UnreadableError):
                for event in rest:
                    self._digest(data_of(event))
        else:
            self._hear(rest[0])
            self._done = True
        if not self._done and self._reason is None:
            raise UpstreamBrokeError(_CUT_OFF)
        self._finish()

    def _finish(self) -> None:
        self._say(self._letters.close())
        self._over = True

    def _digest(self, event: bytes) -> None:
        if event.startswith(b"[DONE]"):
            self._done = True
        elif event:
            self._hear(event)

    def _hear(self, data: bytes) -> None:
        """Take in a chunk, or a whole completion: that one must have a choice."""
        chunk = _parse(data)
        if chunk.get("error"):
            raise stream_error(chunk["error"], self._clean)
        if usage := chunk.get("usage"):
            self._usage = usage_of(usage) or self._usage
        choices = chunk.get("choices")
        if not choices and self._streamed:
            return
        text, reason = _choice(choices)
        self._reason = (reason and word(reason)) or self._reason
        if text:
            self._say(self._letters.push(text))

    def _say(self, text: str) -> None:
        if not self._bare:
            text = text.lstrip(" ")
        if not text:
            return
        self._bare = True
        self._length.add(text)
        self._pieces.append(text)


class _UnreadableError(UpstreamFailedError):
    """An event is no chunk of an answer."""


def _is_stream(response: httpx2.Response) -> bool:
    """Say whether the body is an event stream or else one JSON document; refuse anything else."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UpstreamFailedError("the upstream's answer is compressed, which was not asked for")
    if kind not in ("text/event-stream", "application/json"):
        raise UpstreamFailedError("the upstream's answer is neither an event stream nor JSON")
    return kind == "text/event-stream"


def _parse(event: bytes) -> dict[str, Any]:
    """Read a chunk; half a surrogate pair, which the fast parser refuses, is let through."""
    try:
        chunk = orjson.loads(event)
    except orjson.JSONDecodeError:
        try:
            chunk = json.loads(event.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise _UnreadableError(_UNREADABLE) from None
    if not isinstance(chunk, dict):
        raise _UnreadableError(_UNREADABLE)
    return chunk


def _choice(choices: Any) -> tuple[str | None, str | None]:
    """Return the text and the finish reason of the first choice, of whichever shape it is."""
    try:
        choice = choices[0]
        part = choice.get("delta") or choice.get("message")
        text = part.get("content") if part else choice.get("text")
        reason = ending(choice.get("finish_reason"))
    except (AttributeError, LookupError, TypeError):
        raise _UnreadableError(_UNREADABLE) from None
    if isinstance(text, _TEXT):
        return text, reason
    raise _UnreadableError(_UNREADABLE)

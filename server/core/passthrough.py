"""The one way to the upstreams for calls of OpenAI's API that are answered as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from server.config.limits import ReplyLimits
from server.core.access.capacity import Capacity
from server.core.access.token_budget import TokenBudget
from server.live.notify import Listeners
from server.openai_protocol.codec import MalformedError, encode, parse
from server.openai_protocol.sse import EventStream, OversizedEventError, data_of, one_by_one
from server.openai_protocol.usage_fields import total_of
from server.upstream.bodies import EVENTS, JSON
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import Call, Reply

#: Streams of these tell their usage only where they are asked to.
_COMPLETIONS = ("/chat/completions", "/completions")
#: what of an answer is looked at; a larger one is not counted
_ANSWER_BYTES = ReplyLimits().answer_bytes
_EVENT_BYTES = ReplyLimits().event_bytes


class Passthrough:
    """Gives each call a place, counts what it uses for its owner, and knows when all have ended."""

    def __init__(self, upstreams: UpstreamPool, capacity: Capacity) -> None:
        self._upstreams = upstreams
        self._capacity = capacity
        self._ends = Listeners()
        #: how many calls are being answered
        self.running = 0

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Send a call and yield its reply as soon as its head is there; see OpenAISpeaker.

        Raises CrowdedError where there is no place for it, QuotaSpentError where its owner's
        tokens are spent and it would cost some.
        """
        self.running += 1
        try:
            if call.owner is None:
                async with self._upstreams.call(call) as reply:
                    yield reply
                return
            with self._capacity.room.within(call.owner):
                if not self._capacity.token_budget.limited:
                    async with self._upstreams.call(call) as reply:
                        yield reply
                    return
                meter = Meter(self._capacity.token_budget, call.owner)
                try:
                    asked = await meter.begin(call)
                    async with self._upstreams.call(asked) as reply:
                        yield meter.hear(reply)
                finally:
                    await meter.end()
        finally:
            self.running -= 1
            if not self.running:
                self._ends.wake()

    async def idle(self, seconds: float) -> None:
        """Wait until no call is being answered, so long at most; nobody waits longer than that."""
        if self.running:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ends.listen()
            self._ends.wake()

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the models of all upstreams, aliases included, as OpenAI's model objects."""
        return await self._upstreams.models()

    def first(self, model: str | None) -> PoolMember:
        """Return who is asked first. Raises UpstreamRejectedError where nobody serves the model."""
        return self._upstreams.first(model)

    def serves(self, model: str) -> bool:
        """Say whether anybody serves a model."""
        return self._upstreams.serves(model)

    def has(self, name: str) -> bool:
        """Say whether there is an upstream of this name."""
        return self._upstreams.has(name)


class Meter:
    """Counts what one call uses, as its answer tells it, for the budget of its owner.

    It lives from before the call is sent until its answer was read or given up.
    """

    def __init__(self, token_budget: TokenBudget, owner: str) -> None:
        self._token_budget = token_budget
        self._owner = owner
        self._used = 0
        self._counted = 0
        #: pieces of a completion that was streamed; nearly every one is a token
        self._pieces = 0
        self._costs = False
        self._spoken = False
        #: usage was asked for by us, and is not for the client to see
        self._hidden = False

    async def begin(self, call: Call) -> Call:
        """Return the call as it is to be sent. Raises QuotaSpentError, where it would cost."""
        self._costs = call.method == "POST"
        if self._costs:
            await self._token_budget.check(self._owner)
        self._spoken = call.path in _COMPLETIONS and call.headers.get("accept") == EVENTS
        asked = _read(call.body) if self._spoken and isinstance(call.body, bytes) else {}
        options = asked.get("stream_options") or {}
        if not asked.get("stream") or options.get("include_usage"):
            return call
        self._hidden = True
        told = {"stream_options": {**options, "include_usage": True}}
        return replace(call, body=encode({**asked, **told}))

    def hear(self, reply: Reply) -> Reply:
        """Return a reply whose body is listened to while it is read."""
        kind = reply.headers.get("content-type", "")
        if reply.status >= 400 or not self._costs:
            return reply
        if kind.startswith(EVENTS):
            heard = self._completion if self._spoken else self._events
            return replace(reply, body=heard(reply.body))
        if kind.startswith(JSON):
            return replace(reply, body=self._whole(reply.body))
        return reply

    async def end(self) -> None:
        """Count what was heard: the usage, or what came of a stream that was left before it.

        The end of an answer is told when it is counted, so that the next call knows of it.
        """
        used = self._used or self._pieces
        if used > self._counted:
            more, self._counted = used - self._counted, used
            await self._token_budget.spend(self._owner, more)

    async def _completion(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield whole events, but not one that tells a usage which the client did not ask for."""
        async for event in one_by_one(body):
            if event.startswith(b"data: [DONE]"):
                await self.end()
            else:
                self._pieces += 1
            if b'"usage"' in event:
                chunk = _read(data_of(event))
                self._take(chunk)
                if self._hidden and "usage" in chunk:
                    if not chunk.get("choices"):
                        continue
                    del chunk["usage"]
                    event = b"data: %b\n\n" % encode(chunk)
            yield event

    async def _events(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        stream: EventStream | None = EventStream(_EVENT_BYTES)
        async for piece in body:
            try:
                for data in stream.feed(piece) if stream else ():
                    if b'"usage"' in data:
                        self._take(_read(data))
            except OversizedEventError:
                stream = None
            await self.end()
            yield piece

    async def _whole(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        held, last = bytearray(), b""
        async for piece in body:
            if len(held) <= _ANSWER_BYTES:
                held += piece
            if last:
                yield last
            last = piece
        if b'"usage"' in held and len(held) <= _ANSWER_BYTES:
            self._take(_read(bytes(held)))
            await self.end()
        yield last

    def _take(self, said: Mapping[str, Any]) -> None:
        """Take an answer's usage; of a stream that tells it again and again, the last counts."""
        inner = said.get("response")
        usage = said.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
        if isinstance(usage, dict):
            self._used = total_of(usage) or self._used


def _read(data: bytes) -> dict[str, Any]:
    """Return a JSON object; whether data is one is not ours to say here."""
    try:
        return parse(data)[0]
    except MalformedError:
        return {}

"""Has one turn of a conversation written by the very request that a client of `/v1` sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from server.core.errors import problem_of
from server.core.passthrough import Passthrough
from server.openai_protocol.assemble import Assembler
from server.openai_protocol.codec import encode, parse
from server.openai_protocol.errors import complaint_of
from server.openai_protocol.fields import Fields
from server.openai_protocol.sse import one_by_one
from server.openai_protocol.surrogates import word
from server.openai_protocol.usage_fields import usage_of
from server.transports.openai.chat import stored, templates
from server.transports.openai.chat.request_messages import RequestMessages
from server.transports.openai.errors import PassedOnError
from server.transports.openai.exchange import Exchange
from server.transports.openai.upstream_json import beside, refuse_bad
from server.transports.status import http_status
from server.upstream.answering import last_complaint, thoughtless
from server.upstream.deltas import Deltas
from server.upstream.errors import is_about_thoughts, refused, stream_error
from server.upstream.port import Call, Finish, Prompt, Reply, UpstreamError
from storage.parts import Part

_OURS = {*stored.OURS, *templates.OURS}


class Writer:
    """An upstream for one turn: sends the client's own request, with the conversation before it.

    What it hears is there for the client too, event by event.
    """

    name = "joined"

    def __init__(self, passthrough: Passthrough, exchange: Exchange, asked: Fields) -> None:
        self._passthrough = passthrough
        self._visit = exchange
        self._asked = asked
        self.heard = Assembler()
        #: what of the upstream's headers is for the client too
        self.headers: Mapping[str, str] = {}
        #: its turn is its own, and not one that an earlier request began
        self.begun = False
        #: what kept the answer from being whole
        self.failure: UpstreamError | PassedOnError | None = None
        self._events: list[bytes] = []
        self._over = False
        self._news = asyncio.Event()

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Part | Finish]:
        """Yield an answer's pieces, then its Finish; see Upstream."""
        self.begun = True
        deltas = Deltas()
        try:
            async for choice in self._heard(prompt):
                for piece in deltas.take(choice):
                    yield piece
            for piece in deltas.close():
                yield piece
        except PassedOnError as refusal:
            self.failure = refusal
            raise _named(refusal) from None
        except UpstreamError as error:
            self.failure = self.failure or error
            raise
        yield Finish(word(self.heard.finish_reason or "stop"), usage_of(self.heard.usage))

    async def close(self) -> None: ...

    def tell(self, event: bytes) -> None:
        """Let the client hear an event of an answer that is there already."""
        self.heard.take(event)
        self._events.append(event)

    def end(self) -> None:
        """Let whoever listens know that nothing more comes."""
        self._over = True
        self._news.set()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield what has been heard and will be, without the stream's own end."""
        place = 0
        while True:
            self._news.clear()
            while place < len(self._events):
                yield self._events[place]
                place += 1
            if self._over:
                return
            await self._news.wait()

    async def _heard(self, prompt: Prompt) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what each event says of the first choice, which is the one that is kept."""
        async with self._replied(prompt) as reply:
            self.headers = beside(reply)
            async for event in one_by_one(reply.body):
                said = self.heard.take(event)
                if self.heard.error is not None:
                    raise self._broken_off(self.heard.error, reply.headers)
                if self.heard.done:
                    return
                self._events.append(event)
                self._news.set()
                for choice in said.get("choices", ()):
                    if choice.get("index", 0) == 0:
                        yield choice

    @asynccontextmanager
    async def _replied(self, prompt: Prompt) -> AsyncIterator[Reply]:
        """Yield a good reply; ask without thoughts where the upstream does not take them back."""
        bare = thoughtless(prompt)
        async with self._passthrough.call(self._call(prompt)) as reply:
            again = bare is not prompt and is_about_thoughts(reply.status, last_complaint(reply))
            if not again:
                await refuse_bad(reply)
                yield reply
                return
        async with self._passthrough.call(self._call(bare)) as reply:
            await refuse_bad(reply)
            yield reply

    def _call(self, prompt: Prompt) -> Call:
        made = self._visit.request.made("/chat/completions", self._body(prompt), stream=True)
        # What it uses is counted with the end of its turn, which has a place of its own.
        return replace(made, owner=None)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        """Return the client's request with the conversation's messages in the place of its own."""
        asked = {k: v for k, v in self._asked.values.items() if k not in _OURS}
        options = {**(asked.get("stream_options") or {}), "include_usage": True}
        return asked | {
            "model": prompt.model,
            "messages": RequestMessages(self._asked.raw("messages")).sent(prompt.messages),
            "stream": True,
            "stream_options": options,
        }

    def _broken_off(self, told: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamError:
        """Name an error that was told inside the stream; the client gets it as it came."""
        error = stream_error(complaint_of(told, str))
        status = http_status(problem_of(error))
        self.failure = PassedOnError(status, headers, encode({"error": told}))
        return error


def _named(refusal: PassedOnError) -> UpstreamError:
    """Name an upstream's refusal as its turn's failure."""
    error = parse(refusal.body)[0].get("error")
    return refused(refusal.status, refusal.headers, complaint_of(error, str))

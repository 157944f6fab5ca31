"""Has any upstream write the answers of conversations: a completion's stream, read as its parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import orjson

from server.openai_protocol.codec import parse
from server.openai_protocol.errors import Complaint
from server.openai_protocol.messages import message_of, without_system, without_thoughts
from server.openai_protocol.progress import progress_of
from server.openai_protocol.repeated import RepeatedChunk
from server.openai_protocol.sse import data_of, events_of
from server.openai_protocol.surrogates import whole, word
from server.openai_protocol.usage_fields import usage_of
from server.templates import template
from server.tokens.models import model
from server.upstream.bodies import EVENTS, JSON
from server.upstream.deltas import Deltas
from server.upstream.errors import (
    HINTS,
    is_about_hints,
    is_about_system,
    is_about_thoughts,
    is_about_usage,
    refused,
    stream_error,
)
from server.upstream.port import (
    Call,
    Finish,
    OpenAISpeaker,
    Piece,
    Prompt,
    PromptProgress,
    Reply,
    UpstreamBrokeError,
    UpstreamError,
    UpstreamLoadingError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
)
from server.upstream.retry import Retries
from storage.model import Usage
from storage.parts import Part

CHAT: Final = "/chat/completions"
TEXT: Final = "/completions"
#: what we say of usage, and a prompt hardly ever does
_ABOUT_USAGE: Final = b"stream_options"
#: parameters that OpenAI's own API refuses; who sends them to any model means: where there are any
_NOT_OPENAI: Final = frozenset(("top_k", "min_p", "repeat_penalty", "repeat_last_n"))


class Answering:
    """Writes answers by asking any upstream that speaks OpenAI's API.

    `total` is how many seconds an answer may take with all its tries. A try that failed before its
    first piece is repeated as `retries` say. Calls that are passed on are not: OpenAI's own clients
    try again by themselves, and one retry in two places is nine tries.
    """

    name = "answering"

    def __init__(
        self,
        upstream: OpenAISpeaker,
        *,
        total: float = 600.0,
        retries: Retries | None = None,
        limit_name: str = "max_tokens",
    ) -> None:
        self._upstream = upstream
        self._total = total
        self._retries = retries or Retries()
        self._limit_name = limit_name
        self._reports_usage = True

    async def complete(self, prompt: Prompt) -> AsyncIterator[Piece]:
        """Yield the answer's pieces as they come, then its Finish; see Upstream."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._total
        tries = 0
        while True:
            answer = _Answer(chat=_is_chat(prompt))
            try:
                async with self._asked(prompt, deadline) as reply:
                    async for events in reply.body:
                        for piece in together(answer.take(events, reply)):
                            yield piece
                for piece in answer.close():
                    yield piece
                yield answer.finish
                return
            except (UpstreamQuotaError, UpstreamLoadingError):
                raise  # the one will not pass, the other was waited for
            except (UpstreamBrokeError, UpstreamRateLimitedError) as error:
                wait = self._retries.wait(tries, error.retry_after)
                if wait is None or answer.begun or clock() + wait >= deadline:
                    raise
                tries += 1
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the upstream."""
        await self._upstream.close()

    @asynccontextmanager
    async def _asked(self, prompt: Prompt, deadline: float) -> AsyncIterator[Reply]:
        """Yield a good reply; ask without what this server takes none of."""
        usage = self._reports_usage
        while True:
            call = self._call(prompt, deadline, usage=usage)
            async with self._upstream.call(call) as reply:
                if reply.status < 400:
                    yield reply
                    return
            told = reply.status, last_complaint(reply)
            bare, plain = thoughtless(prompt), hintless(prompt)
            if usage and is_about_usage(*told):
                usage = False
                # Else the refusal may only repeat what the prompt says.
                self._reports_usage = _says_more(call)
            elif plain is not prompt and is_about_hints(*told):
                prompt = plain
            elif bare is not prompt and is_about_thoughts(*told):
                prompt = bare
            elif is_about_system(*told) and (shorter := systemless(prompt)) is not prompt:
                prompt = shorter
            else:
                raise refused(reply.status, reply.headers, told[1])

    def _call(self, prompt: Prompt, deadline: float, *, usage: bool) -> Call:
        chat = _is_chat(prompt)
        limit = self._limit_name if chat else "max_tokens"
        body = {
            **self._extra(prompt),
            "model": prompt.model,
            **(_messages(prompt) | dict(prompt.options) if chat else _text(prompt)),
        }
        asked = {
            limit: prompt.max_tokens,
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "seed": prompt.seed,
            "stream": True,
            "stream_options": {"include_usage": True} if usage else None,
        }
        body |= {name: value for name, value in asked.items() if value is not None}
        headers = {"accept": EVENTS, "content-type": JSON}
        if prompt.request_id:
            headers["x-client-request-id"] = prompt.request_id
        path = CHAT if chat else TEXT
        return Call(
            "POST",
            path,
            headers=headers,
            body=_json(body),
            model=prompt.model,
            deadline=deadline,
            counted=False,
            waits=True,
        )

    def _extra(self, prompt: Prompt) -> Mapping[str, Any]:
        """Return the parameters beside OpenAI's own that this upstream takes."""
        if self._limit_name == "max_tokens":
            return prompt.extra
        return {name: value for name, value in prompt.extra.items() if name not in _NOT_OPENAI}


class _Answer:
    """An answer that is being read, event by event.

    Where a text is continued (`chat` is False), the space before its first word is none of it.
    """

    def __init__(self, *, chat: bool) -> None:
        self._bare = chat
        self._repeated = RepeatedChunk(chat=chat)
        self._deltas = Deltas()
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._percent = -1
        self.begun = False

    @property
    def finish(self) -> Finish:
        return Finish(self._reason or "stop", self._usage)

    def take(self, events: bytes, reply: Reply) -> Iterator[str | Part | PromptProgress]:
        """Yield what events that came together add to the answer. Raises UpstreamError."""
        for event in events_of(events):
            if (text := self._repeated.text_of(event)) is not None:
                yield from self._told(self._deltas.take({"delta": {"content": text}}))
            else:
                yield from self._read(event, reply)

    def _read(self, event: bytes, reply: Reply) -> Iterator[str | Part | PromptProgress]:
        data = data_of(event)
        if data.startswith(b"[DONE]"):
            return
        chunk, _ = parse(data)
        if chunk.get("error"):
            raise stream_error(last_complaint(reply))
        usage = chunk.get("usage")
        if usage and usage["prompt_tokens"]:  # a prompt of none is one that was not told
            self._usage = usage_of(usage) or self._usage
        if (farther := self._farther(chunk)) is not None:
            yield farther
        else:
            self._repeated.learn(event, chunk)
        if not chunk["choices"]:
            return
        choice = chunk["choices"][0]
        if reason := choice["finish_reason"]:
            self._reason = word(reason)
        yield from self._told(self._deltas.take(choice))

    def close(self) -> list[str | Part]:
        """Return what the end of the answer leaves of it."""
        return self._told(self._deltas.close())

    def _farther(self, chunk: Mapping[str, Any]) -> PromptProgress | None:
        """Return how far the prompt is read where that is a percent farther: a hundred at most."""
        progress = None if self.begun else progress_of(chunk)
        if progress is None:
            return None
        read, total = progress
        percent = 100 * read // total
        if percent <= self._percent:
            return None
        self._percent = percent
        return PromptProgress(read, total)

    def _told(self, pieces: list[str | Part]) -> list[str | Part]:
        if not self._bare and pieces and isinstance(pieces[0], str):
            pieces[0] = pieces[0].lstrip(" ")
            self._bare = bool(pieces[0])
            pieces = pieces if self._bare else pieces[1:]
        self.begun = self.begun or bool(pieces)
        return pieces


def together(
    pieces: Iterator[str | Part | PromptProgress],
) -> Iterator[str | Part | PromptProgress]:
    """Yield texts that stand side by side as one, those before an error too."""
    texts: list[str] = []
    failure: UpstreamError | None = None
    try:
        for piece in pieces:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            if texts:
                yield "".join(texts)
                texts.clear()
            yield piece
    except UpstreamError as error:
        failure = error
    if texts:
        yield "".join(texts)
    if failure is not None:
        raise failure


def _is_chat(prompt: Prompt) -> bool:
    return prompt.text is None and model(prompt.model).chat


def _messages(prompt: Prompt) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [message_of(message) for message in prompt.messages]}
    return body | {"stop": list(prompt.stop)} if prompt.stop else body


def _text(prompt: Prompt) -> dict[str, Any]:
    if prompt.text is not None:
        stops = {"stop": list(prompt.stop)} if prompt.stop else {}
        return {"prompt": prompt.text, **stops}
    return {"prompt": template.render(prompt.messages), "stop": template.stops(prompt.stop)}


def _json(body: Mapping[str, Any]) -> bytes:
    """Write JSON; what the fast writer refuses (half a pair, a large number) is written slowly."""
    try:
        return orjson.dumps(body, default=dict)
    except TypeError:
        return whole(json.dumps(body, default=dict, ensure_ascii=False)).encode()


def _says_more(call: Call) -> bool:
    """Say whether a call speaks of usage in other words than ours."""
    return isinstance(call.body, bytes) and call.body.count(_ABOUT_USAGE) > 1


def hintless(prompt: Prompt) -> Prompt:
    """Return a prompt without hints; one that has none is the same.

    That no two tools may be called at once is none.
    """
    extra = {name: value for name, value in prompt.extra.items() if name not in HINTS}
    options = {
        name: value for name, value in prompt.options.items() if name not in HINTS or value is False
    }
    if len(extra) + len(options) == len(prompt.extra) + len(prompt.options):
        return prompt
    return replace(prompt, extra=extra, options=options)


def thoughtless(prompt: Prompt) -> Prompt:
    """Return a prompt without what a model thought; one that has no thoughts is the same."""
    bare = tuple(map(without_thoughts, prompt.messages))
    return prompt if bare == tuple(prompt.messages) else replace(prompt, messages=bare)


def systemless(prompt: Prompt) -> Prompt:
    """Return a prompt with its system message in the user's first; else, or as it came, itself."""
    told = prompt.messages if prompt.as_it_came else tuple(without_system(prompt.messages))
    return prompt if told == prompt.messages else replace(prompt, messages=told)


def last_complaint(reply: Reply) -> Complaint:
    """Return what an upstream complained of last."""
    return reply.complaints[-1] if reply.complaints else Complaint()

"""Have answers written by OpenAI, or by whatever speaks its API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx2
import openai
import orjson

from server.config.limits import ReplyLimits
from server.openai_protocol.errors import complaint_of
from server.openai_protocol.messages import message_of
from server.openai_protocol.surrogates import whole
from server.templates import template
from server.tokens.models import model
from server.upstream.port import (
    Finish,
    Prompt,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.connections import KEPT, Pool
from server.upstream.remote.errors import BREAKS, UpstreamBrokeError, break_error, status_error
from server.upstream.remote.read_timeout import Limit
from server.upstream.remote.redaction import Clean, Redactor
from server.upstream.remote.request_words import Sent
from server.upstream.remote.turn_stream import Answer
from server.upstream.retry import Retries

_OPENAI = "https://api.openai.com/v1"
#: hosts on which `max_tokens` has given way to `max_completion_tokens`
_OWN_HOSTS = (".api.openai.com", ".openai.azure.com", ".services.ai.azure.com")
#: what a server that wants no key is sent in its place
_NO_KEY = "none"
_CONNECT = 10.0
_KEEP_ALIVE = 30.0
#: after which a connection is closed that is not kept; 0 would be never
_AT_ONCE = 0.001
#: aiohttp's word for it; None would be its default of 100
_UNBOUNDED = 0
_MOST: Final = ReplyLimits()
_HEADERS: Final[dict[str, str]] = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


class OpenAIUpstream:
    """Writes answers by asking `base_url`, OpenAI's own if None; opens no connection before a call.

    Times are in seconds: `timeout` is for a whole call with its retries, `first_byte_timeout` for
    each try until its first event, `between_timeout` from one event to the next. A try that failed
    before the first piece is repeated up to `retries` times, after `backoff` that doubles, or
    after what the upstream asks for if that is no more than `longest_wait`. `kept` is how many
    idle connections stay open for the next call.
    """

    name = "openai"

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        timeout: float = 600.0,
        first_byte_timeout: float = 60.0,
        between_timeout: float = 60.0,
        retries: int = 2,
        backoff: float = 0.5,
        longest_wait: float = 60.0,
        max_answer_chars: int = _MOST.answer_chars,
        max_answer_bytes: int = _MOST.answer_bytes,
        max_event_bytes: int = _MOST.event_bytes,
        kept: int = KEPT,
    ) -> None:
        if not api_key and not base_url:
            raise ValueError("an upstream needs a key, or the address of a server that wants none")
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError("the upstream's key has characters that no header can carry")
        address = base_url or _OPENAI
        self._limit_name = limit_name(address)
        self._bounds = Bounds(
            total=timeout,
            first_byte=first_byte_timeout,
            between=between_timeout,
            answer_chars=max_answer_chars,
            answer_bytes=max_answer_bytes,
            event_bytes=max_event_bytes,
        )
        self._retries = Retries(retries, backoff, longest_wait)
        self._redact = Redactor(api_key, address)
        self._reports_usage = True
        self._pool = Pool(kept)
        self._client = openai.AsyncOpenAI(
            api_key=api_key or _NO_KEY, base_url=address, max_retries=0, http_client=_http_client()
        )
        self._passing: openai.AsyncOpenAI | None = None

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        """Yield the answer's pieces as they come, then its Finish; see Upstream."""
        with self._pool.using():
            answer = await self._begin(prompt)
            try:
                while pieces := await answer.pieces():
                    for piece in pieces:
                        yield piece
                yield answer.finish
                await answer.drain()
            finally:
                await answer.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
        if self._passing is not None:
            await self._passing.close()

    async def _begin(self, prompt: Prompt) -> Answer:
        """Return an answer that has begun, after as many tries as it takes and are allowed."""
        deadline = _clock() + self._bounds.total
        tries = 0
        while True:
            try:
                return await self._try(prompt, deadline)
            except UpstreamQuotaError:
                raise
            except (UpstreamBrokeError, UpstreamRateLimitedError) as error:
                wait = self._retries.wait(tries, error.retry_after)
                if wait is None or _clock() + wait >= deadline:
                    raise
            tries += 1
            await asyncio.sleep(wait)

    async def _try(self, prompt: Prompt, deadline: float) -> Answer:
        first_by = _clock() + self._bounds.first_byte
        chat = prompt.text is None and model(prompt.model).chat
        clean = self._redact.of(Sent(lambda: [_json(self._body(prompt, chat))]))
        limit = Limit(min(first_by, deadline), self._bounds.first_byte)
        response = await self._ask(prompt, chat, limit, clean)
        deadline, first_by = max(deadline, limit.by), max(first_by, limit.by)
        answer = Answer(response, self._bounds, clean, deadline, continuation=not chat)
        try:
            await answer.begin(first_by)
        except BaseException:
            await answer.close()
            raise
        return answer

    async def _ask(self, prompt: Prompt, chat: bool, limit: Limit, clean: Clean) -> httpx2.Response:
        """Return the upstream's response once its headers have come."""
        try:
            async with limit:
                return await self._post_as_understood(prompt, chat)
        except openai.APIStatusError as refusal:
            raise status_error(refusal, clean) from None
        except BREAKS as error:
            if limit.expired():
                raise UpstreamTimeoutError("the upstream did not answer in time") from None
            raise break_error(error) from None

    async def _post_as_understood(self, prompt: Prompt, chat: bool) -> httpx2.Response:
        """Ask for usage, unless this server is known, or now found, not to know how."""
        if self._reports_usage:
            try:
                return await self._post(prompt, chat)
            except openai.APIStatusError as refusal:
                if not _is_about_usage(refusal, self._redact):
                    raise
            self._reports_usage = False
        return await self._post(prompt, chat)

    async def _post(self, prompt: Prompt, chat: bool) -> httpx2.Response:
        response = await self._fit_client().post(
            "/chat/completions" if chat else "/completions",
            cast_to=httpx2.Response,
            content=_json(self._body(prompt, chat)),
            options={"headers": _headers(prompt)},
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        return cast("httpx2.Response", response)

    def _fit_client(self) -> openai.AsyncOpenAI:
        """Return the client that keeps its connections, or in a crowd one that does not."""
        if not self._pool.crowded:
            return self._client
        if self._passing is None:
            self._passing = self._client.with_options(http_client=_http_client(_AT_ONCE))
        return self._passing

    def _body(self, prompt: Prompt, chat: bool) -> dict[str, Any]:
        asked = {
            self._limit_name if chat else "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "seed": prompt.seed,
        }
        body = {"model": prompt.model, **(_messages(prompt) if chat else _text(prompt))}
        body |= {name: value for name, value in asked.items() if value is not None}
        body["stream"] = True
        if self._reports_usage:
            body["stream_options"] = {"include_usage": True}
        return body


def limit_name(base_url: str) -> str:
    """Return what a server calls the limit on an answer's tokens."""
    host = f".{urlsplit(base_url).hostname or ''}"
    return "max_completion_tokens" if host.endswith(_OWN_HOSTS) else "max_tokens"


class _Capped(httpx2.AsyncByteStream):
    """The beginning of a body, as long as a refusal may be."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _MOST.refusal_bytes
        async for piece in self._stream:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cap_refusal(response: httpx2.Response) -> None:
    """Bound the body of a response that the client will read whole to make an error of it."""
    if not response.is_success and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Capped(response.stream)


def _http_client(keep_alive: float = _KEEP_ALIVE) -> httpx2.AsyncClient:
    """Return a client that leaves patience to us and follows no redirect: it would take the key."""
    return openai.DefaultAioHttpClient(
        timeout=httpx2.Timeout(None, connect=_CONNECT),
        limits=httpx2.Limits(max_connections=_UNBOUNDED, keepalive_expiry=keep_alive),
        follow_redirects=False,
        event_hooks={"response": [_cap_refusal]},
    )


def _headers(prompt: Prompt) -> dict[str, str]:
    return _HEADERS | ({"X-Client-Request-Id": prompt.request_id} if prompt.request_id else {})


def _messages(prompt: Prompt) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [message_of(message) for message in prompt.messages]}
    return body | {"stop": list(prompt.stop)} if prompt.stop else body


def _text(prompt: Prompt) -> dict[str, Any]:
    if prompt.text is not None:
        stops = {"stop": list(prompt.stop)} if prompt.stop else {}
        return {"prompt": prompt.text, **stops}
    return {"prompt": template.render(prompt.messages), "stop": template.stops(prompt.stop)}


def _json(body: dict[str, Any]) -> bytes:
    """Write JSON; what the fast writer refuses (half a pair, a large number) is written slowly."""
    try:
        return orjson.dumps(body, default=dict)
    except TypeError:
        return whole(json.dumps(body, default=dict, ensure_ascii=False)).encode()


def _is_about_usage(refusal: openai.APIStatusError, clean: Clean) -> bool:
    if refusal.status_code not in (400, 422):
        return False
    complaint = complaint_of(refusal.body, clean)
    return any(
        "stream_options" in (word or "") or "include_usage" in (word or "")
        for word in (complaint.param, complaint.message)
    )


def _clock() -> float:
    return asyncio.get_running_loop().time()

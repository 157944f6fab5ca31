"""A proxy to one upstream that speaks OpenAI's API: passes calls on, and its answers back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
import httpx2
import structlog
from yarl import URL

from server.config.kinds import sendable
from server.config.limits import ReplyLimits
from server.openai_protocol.codec import MalformedError, parse
from server.upstream.bodies import EVENTS, whole
from server.upstream.port import (
    Call,
    Reply,
    UpstreamBrokeError,
    UpstreamFailedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.connections import KEPT, Pool
from server.upstream.remote.headers import sent
from server.upstream.remote.loading import Loading, told_later
from server.upstream.remote.proxy import proxy_of
from server.upstream.remote.read_timeout import Limit
from server.upstream.remote.redaction import Redactor
from server.upstream.remote.request_words import END_BYTES, Sent
from server.upstream.remote.response import BREAKS, UpstreamResponse
from server.upstream.remote.unreachable import reason

log = structlog.get_logger("trialogue.upstream")

OPENAI_URL: Final = "https://api.openai.com/v1"
#: hosts on which `max_tokens` has given way to `max_completion_tokens`
_OWN_HOSTS = (".api.openai.com", ".openai.azure.com", ".services.ai.azure.com")
_CONNECT = 10.0
#: Many local servers close a connection after 5 s of silence; a new one costs them little.
_KEEP_ALIVE: Final = {"http": 4.0, "https": 30.0}
#: see Pool
_UNBOUNDED = 0
#: so much of a body is sent at once
_PIECE = 64 << 10
#: how long, and how much, a list of models may be
_LIST_SECONDS = 10.0
_LIST_BYTES: Final = ReplyLimits().list_bytes


class UpstreamClient:
    """Passes on to `base_url`, OpenAI's own if None; opens no connection before a call.

    Of a client's headers only those go along that `headers.sent` names; the upstream's own key is
    put in. No redirect is followed: it would take the key along. Bodies pass in both directions as
    they come, byte for byte; only completions are looked at (see UpstreamResponse), and only
    refusals, which might show our key, are re-made.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None = None,
        name: str = "openai",
        bounds: Bounds | None = None,
        kept: int = KEPT,
    ) -> None:
        """`kept` is how many idle connections stay open for the next call."""
        if not api_key and not base_url:
            raise ValueError("an upstream needs a key, or the address of a server that wants none")
        if api_key:
            sendable(api_key)
        self.name, self.api_key, self.base_url = name, api_key, base_url or OPENAI_URL
        self._base, login = _address(self.base_url)
        self._own = {"authorization": f"Bearer {api_key}"} if api_key else login
        self._bounds = bounds or Bounds()
        self._redact = Redactor(api_key, self.base_url)
        self._pool = Pool(kept)
        self._loading = Loading(self._bounds.first_byte)
        #: the one that keeps its connections, and one for a crowd, which does not
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Send a call and yield the reply; see OpenAISpeaker.

        A stream of a completion, which `accept: text/event-stream` announces, is yielded once its
        first event is there, and its body's items are whole events. What breaks a body that is
        being read is raised there, as an UpstreamError; what `call.body` itself raises is raised
        unchanged.
        """
        with self._pool.using():
            end = self._loading.end(call)
            while True:
                incoming = await self._send(call)
                try:
                    reply = await incoming.reply(call)
                    if not self._loading.says_so(call, reply):
                        yield reply
                        return
                finally:
                    await incoming.leave()
                if not await self._loading.pause(end):
                    yield told_later(reply)
                    return

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the models that the upstream lists."""
        try:
            async with asyncio.timeout(_LIST_SECONDS), self.call(Call("GET", "/models")) as reply:
                data = await whole(reply.body, _LIST_BYTES)
        except TimeoutError:
            raise UpstreamTimeoutError("the upstream did not list its models in time") from None
        try:
            found = parse(data)[0].get("data") if reply.status == 200 else None
        except MalformedError:
            found = None
        if not isinstance(found, list):
            raise UpstreamFailedError("the upstream does not list its models")
        return [one for one in found if isinstance(one, dict) and isinstance(one.get("id"), str)]

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    async def _send(self, call: Call) -> UpstreamResponse:
        """Return the upstream's answer once its head is there."""
        bounds, loop = self._bounds, asyncio.get_running_loop()
        streamed = call.headers.get("accept") == EVENTS
        patience = bounds.first_byte if streamed else bounds.total
        began = loop.time()
        if call.deadline is not None:
            patience = min(patience, call.deadline - began)

        def moved() -> None:
            nonlocal began
            began = loop.time()
            limit.renew(began + patience)

        body = None if isinstance(call.body, bytes) else _Sending(call.body, moved)
        try:
            async with Limit(began + patience, patience) as limit:
                response = await self._request(call, body)
        except BREAKS as error:
            if body is not None and body.error is not None:
                raise body.error from None
            named = _named(error)
            if isinstance(named, UpstreamBrokeError):
                log.warning("upstream unreachable", upstream=self.name, reason=reason(error))
            raise named from None
        clean = self._redact.of(Sent(lambda: _words(call, body)))
        end = call.deadline or began + bounds.total
        return UpstreamResponse(
            response, bounds, clean, max(end, limit.by), max(began + patience, limit.by)
        )

    async def _request(self, call: Call, body: _Sending | None) -> aiohttp.ClientResponse:
        keeps = not self._pool.crowded
        if keeps not in self._sessions:
            self._sessions[keeps] = _session(self._base, keeps=keeps)
        headers = sent(call.headers, self._own)
        if isinstance(call.body, bytes):
            headers |= {"content-length": str(len(call.body))} if call.body else {}
        return await self._sessions[keeps].request(
            call.method,
            self._url(call),
            headers=headers,
            data=body or _payload(call.body),
            allow_redirects=False,
        )

    def _url(self, call: Call) -> URL:
        segments = unquote(call.path).replace("\\", "/").split("/")
        if ".." in segments or "." in segments:
            raise UpstreamRejectedError("A path with dots leads out of the upstream's API.", 404)
        query = "&".join(filter(None, (self._base.query, call.query)))
        base = self._base.path.rstrip("/")
        path = (base.removesuffix("/v1") if call.beside else base) + call.path
        return URL(self._base._replace(path=path, query=query).geturl(), encoded=True)


def limit_name(base_url: str) -> str:
    """Return what a server calls the limit on an answer's tokens."""
    return "max_completion_tokens" if is_openais(base_url) else "max_tokens"


def is_openais(base_url: str) -> bool:
    """Say whether an address is OpenAI's own."""
    return f".{urlsplit(base_url).hostname or ''}".endswith(_OWN_HOSTS)


class _Sending:
    """A body on its way to the upstream; keeps what broke it, which the transport would rename."""

    def __init__(self, body: AsyncIterator[bytes], moved: Callable[[], None]) -> None:
        self._body = body
        self._moved = moved
        self.error: Exception | None = None
        #: its first bytes, which are all that is kept of it
        self.beginning = bytearray()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                self._moved()
                self.beginning += piece[: END_BYTES - len(self.beginning)]
                yield piece
                self._moved()
        except Exception as error:
            self.error = error
            raise


def _words(call: Call, body: _Sending | None) -> list[str | bytes]:
    """Return what a call says to the upstream; of a body that is streamed, how it begins."""
    said = bytes(body.beginning) if body is not None else call.body
    assert isinstance(said, bytes)  # noqa: S101 - any other is streamed
    return [call.path, call.query, *sent(call.headers, {}).values(), said]


def _payload(body: bytes | AsyncIterator[bytes]) -> bytes | AsyncIterator[memoryview] | None:
    if not isinstance(body, bytes) or not body:
        return None
    return body if len(body) <= _PIECE else _pieces(body)


async def _pieces(body: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(view), _PIECE):
        yield view[start : start + _PIECE]


def _session(base: SplitResult, *, keeps: bool) -> aiohttp.ClientSession:
    """Return a session that keeps no cookie and leaves patience to us."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=_UNBOUNDED,
            keepalive_timeout=_KEEP_ALIVE[base.scheme] if keeps else None,
            force_close=not keeps,
            ssl=httpx2.create_ssl_context() if base.scheme == "https" else True,
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Content-Type", "User-Agent", "Accept"),
        auto_decompress=False,
        proxy=proxy_of(base),
    )


def _address(base_url: str) -> tuple[SplitResult, dict[str, str]]:
    """Return an address without the login in it, and the header that the login makes."""
    url = urlsplit(base_url)
    bare = url._replace(netloc=url.netloc.rpartition("@")[2], fragment="")
    if url.username is None:
        return bare, {}
    login = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
    return bare, {"authorization": f"Basic {base64.b64encode(login).decode()}"}


def _named(error: Exception) -> UpstreamFailedError | UpstreamTimeoutError:
    """Name what broke before an answer began, without the error's text: that may hold addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return UpstreamTimeoutError("the upstream did not answer in time")
        cause = cause.__cause__
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return UpstreamBrokeError("the upstream could not be reached, or closed the connection")
    return UpstreamFailedError("the upstream's answer could not be understood")

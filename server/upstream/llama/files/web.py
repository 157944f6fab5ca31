"""Asks the web for what belongs to models; redirects do not get the token."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from yarl import URL

from server import VERSION
from server.config.addresses import is_near, web_address
from server.config.hosts import is_loopback
from server.upstream.bodies import whole
from server.upstream.llama.files.library import ModelFileError
from server.upstream.port import UpstreamError
from server.upstream.remote.proxy import proxy_of

_TIMES: Final = aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=60.0)
_REDIRECTS = 10
_MOVED = (301, 302, 303, 307, 308)
#: of a list or a description
_JSON_BYTES = 32 << 20
#: what breaks a connection, before an answer or within it
BREAKS = (aiohttp.ClientError, OSError, TimeoutError)


class Web:
    """Asks for things; the token goes to its own origin alone, however one is redirected."""

    def __init__(self, token: str | None = None, token_for: str = "") -> None:
        self._token = token
        self._origin = _origin(urlsplit(token_for))
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def get(
        self, address: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer at the end of all redirects.

        Raises ModelFileError for a redirect that cannot be followed; one of BREAKS.
        """
        for _ in range(_REDIRECTS):
            async with self._ask(address, headers or {}) as response:
                if response.status not in _MOVED:
                    yield response
                    return
                address = _next(address, response.headers.get("location", ""))
        raise ModelFileError(f"{_host(address)} redirects in circles")

    async def json(self, address: str) -> Any:
        """Return what an address describes. Raises ModelFileError, one line with its host."""
        try:
            async with self.get(address) as response:
                if response.status >= 400:
                    raise ModelFileError(_refusal(response))
                return json.loads(await whole(response.content.iter_chunked(1 << 16), _JSON_BYTES))
        except BREAKS as error:
            told = f"{_host(address)} cannot be reached ({_reason(error)}); are you offline?"
            raise ModelFileError(told) from None
        except (UpstreamError, ValueError, RecursionError):
            raise ModelFileError(f"{_host(address)} answers what is no JSON") from None

    def _ask(self, address: str, headers: Mapping[str, str]) -> Any:
        url = urlsplit(address)
        login = {}
        if self._token and _origin(url) == self._origin:
            login = {"Authorization": f"Bearer {self._token}"}
        return self._opened().get(
            URL(address, encoded=True),
            headers={**headers, **login, "User-Agent": f"trialogue/{VERSION}"},
            allow_redirects=False,
            proxy=proxy_of(url),
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_authorities()),
                timeout=_TIMES,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
            )
        return self._session


def refuse(response: aiohttp.ClientResponse) -> ModelFileError:
    """Return what a refusal means for whoever asked."""
    return ModelFileError(_refusal(response))


def broken(address: str, error: BaseException) -> str:
    """Return what to tell of a connection that broke."""
    return f"{_host(address)}: {_reason(error)}"


def _refusal(response: aiohttp.ClientResponse) -> str:
    host = response.url.host
    if response.status in (401, 403):
        return f"{host} refuses ({response.status}); a model may need HF_TOKEN, and its terms taken"
    if response.status == 404:
        return f"{host} has no such thing (404)"
    return f"{host} answers with {response.status}"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return (isinstance(cause, OSError) and cause.strerror) or type(error).__name__


def _next(address: str, location: str) -> str:
    """Return where a redirect leads."""
    try:
        there = urljoin(address, location)
        here, url = urlsplit(address), web_address(there)
    except ValueError:
        raise ModelFileError(f"{_host(address)} redirects to nowhere") from None
    if url.scheme != "https" and (here.scheme == "https" or not _beside(here, url)):
        raise ModelFileError(f"{_host(address)} redirects to an address without TLS")
    if is_near(there) and not is_near(address):  # what only we can reach is not a stranger's to ask
        raise ModelFileError(f"{_host(address)} redirects into this network")
    return there


def _beside(here: SplitResult, there: SplitResult) -> bool:
    """Say whether two addresses are of one host, or both of this machine."""
    hosts = {here.hostname or "", there.hostname or ""}
    return len(hosts) == 1 or all(is_loopback(host) for host in hosts)


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _host(address: str) -> str:
    return urlsplit(address).hostname or "it"


def _authorities() -> ssl.SSLContext:
    import httpx2  # only now: it takes long to load

    return httpx2.create_ssl_context()

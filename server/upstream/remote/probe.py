"""Whether an upstream can be reached and takes its key, and which models it lists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx2
import openai

from server.config.limits import ReplyLimits
from server.openai_protocol.codec import MalformedError, parse
from server.upstream.bodies import whole
from server.upstream.port import UpstreamError, UpstreamFailedError, UpstreamTimeoutError
from server.upstream.remote.proxy import proxy_of
from server.upstream.remote.unreachable import reason

SECONDS: Final = 10.0
#: what a server that wants no key is sent in its place
_NO_KEY: Final = "none"
_LIST_BYTES: Final = ReplyLimits().list_bytes


@dataclass(frozen=True, slots=True)
class Probed:
    """How an upstream answered when it was asked for its models; those it listed, if it did."""

    status: int
    models: tuple[str, ...] | None


async def probe(api_key: str | None, base_url: str, seconds: float = SECONDS) -> Probed:
    """Ask an upstream for its models by OpenAI's own client, as a program of its users would.

    Raises UpstreamError where it cannot be reached, leads elsewhere, says too much or takes longer
    than so many seconds.
    """
    try:
        transport = _Bounded(proxy=proxy_of(urlsplit(base_url)))
    except (ValueError, ImportError, httpx2.InvalidURL):
        raise UpstreamFailedError("the proxy that the environment names cannot be used") from None
    client = openai.AsyncOpenAI(
        api_key=api_key or _NO_KEY,
        base_url=base_url,
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport, timeout=seconds),
    )
    try:
        async with asyncio.timeout(seconds), client:
            listed = await client.models.with_raw_response.list()
    except TimeoutError:
        raise UpstreamTimeoutError("the upstream did not answer in time") from None
    except openai.APIStatusError as error:
        return Probed(error.status_code, None)
    except openai.APIConnectionError as error:
        raise _named(error) from None
    return Probed(200, _names(listed.content))


class _Bounded(httpx2.AsyncHTTPTransport):
    """Answers with no more than a list of models has, and never with what leads elsewhere."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # Packed, a short answer is a long one.
        request.headers["accept-encoding"] = "identity"
        response = await super().handle_async_request(request)
        try:
            if response.is_redirect:
                raise UpstreamFailedError("the upstream leads elsewhere, which is not followed")
            data = await whole(response.aiter_raw(), _LIST_BYTES)
        finally:
            await response.aclose()
        return httpx2.Response(response.status_code, content=data)


def _names(data: bytes) -> tuple[str, ...] | None:
    """Return the models of a list; None where it is none."""
    try:
        listed = parse(data)[0].get("data")
    except MalformedError:
        return None
    if not isinstance(listed, list):
        return None
    names = (one.get("id") for one in listed if isinstance(one, dict))
    return tuple(name for name in names if isinstance(name, str) and name.isprintable())


def _named(error: openai.APIConnectionError) -> UpstreamError:
    """Name what broke without the error's text: that may hold addresses."""
    if isinstance(error, openai.APITimeoutError):
        return UpstreamTimeoutError("the upstream did not answer in time")
    if isinstance(error.__cause__, UpstreamError):
        return error.__cause__
    return UpstreamFailedError(
        f"the upstream could not be reached, or closed the connection ({reason(error)})"
    )

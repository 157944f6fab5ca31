"""Rename the failures of OpenAI's client and of its transport to ours."""

from __future__ import annotations

import aiohttp
import httpx2
import openai
from aiohttp.http_exceptions import HttpProcessingError

from server.upstream.port import UpstreamError, UpstreamFailedError, UpstreamTimeoutError
from server.upstream.remote.errors import UpstreamBrokeError, refused
from server.upstream.remote.redaction import Clean

#: Everything that the client, httpx2 and aiohttp below it raise where an exchange breaks.
BREAKS = (
    openai.OpenAIError,
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    UnicodeError,
)


def status_error(error: openai.APIStatusError, clean: Clean) -> UpstreamError:
    """Name the failure that an answer with a status other than 2xx is."""
    return refused(error.status_code, error.response.headers, error.body, clean)


def break_error(error: Exception) -> UpstreamError:
    """Name what broke before an answer began, without the error's text: that may hold addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return UpstreamTimeoutError("the upstream could not be reached in time")
        cause = cause.__cause__
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError):
        return UpstreamBrokeError("the upstream could not be reached, or closed the connection")
    return UpstreamFailedError("the upstream's answer could not be understood")

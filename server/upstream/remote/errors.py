"""Name what an upstream complains of, by what it says: the same for every client that heard it."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import httpx2
import openai
from aiohttp.http_exceptions import HttpProcessingError

from server.openai_protocol.errors import Complaint, complaint_of
from server.upstream.port import (
    UpstreamError,
    UpstreamFailedError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.redaction import Clean
from server.upstream.retry import retry_after

_QUOTA = "insufficient_quota"
_RATE_LIMITS = frozenset({"rate_limit_exceeded", "rate_limit_error", "requests", "tokens"})
#: the status that an error inside a stream would have had, by its type or code
_STATUS_OF = {
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    _QUOTA: 429,
}


class UpstreamBrokeError(UpstreamFailedError):
    """A failure that may pass; `retry_after` is in seconds where the upstream said how long."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def refused(status: int, headers: Mapping[str, str], body: object, clean: Clean) -> UpstreamError:
    """Name the failure that an answer with a status other than 2xx is."""
    complaint = complaint_of(body, clean)
    if 300 <= status < 400:
        return UpstreamFailedError("the upstream answered with a redirect, which is not followed")
    if status == 429:
        return _rate_limited(complaint, headers, clean)
    if 400 <= status < 500 and status not in (408, 409):
        return _rejected(complaint, status)
    message = f"the upstream failed with status {status}"
    if complaint.message:
        message = f"{message}: {complaint.message}"
    if headers.get("x-should-retry") == "false":
        return UpstreamFailedError(message)
    return UpstreamBrokeError(message, retry_after(headers))


def stream_error(error: object, clean: Clean) -> UpstreamError:
    """Name the failure that an `error` inside a stream is, by its code or type where that tells."""
    complaint = complaint_of(error, clean)
    status = _status_in_stream(complaint)
    if status == 429:
        return _rate_limited(complaint, {}, clean)
    if status is not None and 400 <= status < 500 and status not in (408, 409):
        return _rejected(complaint, status)
    return UpstreamBrokeError(complaint.message or "the upstream reported an error")


def _status_in_stream(complaint: Complaint) -> int | None:
    for word in (complaint.code, complaint.type):
        if word in _RATE_LIMITS:
            return 429
        if word in _STATUS_OF:
            return _STATUS_OF[word]
        if word is not None and word.isdecimal() and len(word) == 3:
            return int(word)
    return None


def _rejected(complaint: Complaint, status: int) -> UpstreamRejectedError:
    message = complaint.message or f"the upstream refused the request with status {status}"
    return UpstreamRejectedError(message, status, complaint.code, complaint.param)


def _rate_limited(
    complaint: Complaint, headers: Mapping[str, str], clean: Clean
) -> UpstreamRateLimitedError:
    kept = ("retry-after", "x-ratelimit-")
    told = {k.lower(): clean(v) for k, v in headers.items() if k.lower().startswith(kept)}
    message = complaint.message or "the upstream asks for fewer requests"
    if _QUOTA not in (complaint.code, complaint.type):
        return UpstreamRateLimitedError(message, retry_after(headers), told)
    if _QUOTA not in message:
        message = f"{message} ({_QUOTA})"
    return UpstreamQuotaError(message, retry_after(headers), told)


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

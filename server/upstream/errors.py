"""Names what an upstream complains of, by what it says: the same for every client that heard it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from server.openai_protocol.errors import Complaint, code_in
from server.upstream.port import (
    UpstreamBrokeError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamLoadingError,
    UpstreamOverflowError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from server.upstream.retry import retry_after

#: Parameters of OpenAI's that no answer depends on; agents send them to whomever they ask.
HINTS: Final = (
    *("parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier"),
    "verbosity",
)
_QUOTA = "insufficient_quota"
_RATE_LIMITS = frozenset({"rate_limit_exceeded", "rate_limit_error", "requests", "tokens"})
#: the status that an error inside a stream would have had, by its type or code
_STATUS_OF = {
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    _QUOTA: 429,
}
#: in the words of chat templates, and of Google's own server
_NO_SYSTEM = re.compile(
    r"system (role|message|prompt)|roles? must alternate|only user and assistant"
    r"|developer instruction",
    re.IGNORECASE,
)


def refused(status: int, headers: Mapping[str, str], complaint: Complaint) -> UpstreamError:
    """Name the failure that an answer with a status other than 2xx is."""
    if 300 <= status < 400:
        return UpstreamFailedError("the upstream answered with a redirect, which is not followed")
    if status == 429:
        return _rate_limited(complaint, headers)
    if 400 <= status < 500 and status not in (408, 409):
        return _rejected(complaint, status)
    message = f"the upstream failed with status {status}"
    if complaint.message:
        message = f"{message}: {complaint.message}"
    if headers.get("x-should-retry") == "false":
        return UpstreamFailedError(message)
    kind = UpstreamLoadingError if loads(status, complaint) else UpstreamBrokeError
    return kind(message, retry_after(headers))


def loads(status: int, complaint: Complaint) -> bool:
    """Say whether a refusal says that the server is there, and still loads its model."""
    return status == 503 and "loading" in complaint.message.lower()


def stream_error(complaint: Complaint) -> UpstreamError:
    """Name the failure that an `error` inside a stream is, by its code or type where that tells."""
    status = _status_in_stream(complaint)
    if status == 429:
        return _rate_limited(complaint, {})
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
    if (found := complaint.overflow) is not None and found.at(status):
        return UpstreamOverflowError(
            message, status, complaint.code, complaint.param, found.tokens, found.window
        )
    return UpstreamRejectedError(message, status, code_in(complaint, status), complaint.param)


def _rate_limited(complaint: Complaint, headers: Mapping[str, str]) -> UpstreamRateLimitedError:
    kept = ("retry-after", "x-ratelimit-")
    told = {k.lower(): v for k, v in headers.items() if k.lower().startswith(kept)}
    message = complaint.message or "the upstream asks for fewer requests"
    if _QUOTA not in (complaint.code, complaint.type):
        return UpstreamRateLimitedError(message, retry_after(headers), told)
    if _QUOTA not in message:
        message = f"{message} ({_QUOTA})"
    return UpstreamQuotaError(message, retry_after(headers), told)


def status_of(error: UpstreamError) -> int:
    """Return the HTTP status of an answer that is nothing but this error."""
    match error:
        case UpstreamRejectedError(status=status):
            return status
        case UpstreamRateLimitedError():
            return 429
        case _:
            return 502


def is_about_usage(status: int, complaint: Complaint) -> bool:
    """Say whether a refusal says that the server cannot be asked for usage."""
    return status in (400, 422) and _names(complaint, "stream_options", "include_usage")


def is_about_hints(status: int, complaint: Complaint) -> bool:
    """Say whether a refusal says that the server does not know a hint."""
    return status in (400, 422) and _names(complaint, *HINTS)


def is_about_thoughts(status: int, complaint: Complaint) -> bool:
    """Say whether a refusal says that the server takes no thoughts back."""
    return status in (400, 422) and _names(complaint, "reasoning_content")


def is_about_system(status: int, complaint: Complaint) -> bool:
    """Say whether a refusal says that the model takes no system message: Gemma 2, Mistral 7B."""
    return status in (400, 422) and _NO_SYSTEM.search(complaint.message) is not None


def _names(complaint: Complaint, *names: str) -> bool:
    return any(
        name in word for word in (complaint.param or "", complaint.message) for name in names
    )

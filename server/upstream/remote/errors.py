"""Name what an upstream complains of, by what it says: the same for every client that heard it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from server.upstream.port import (
    UpstreamError,
    UpstreamFailedError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from server.upstream.remote.redaction import Clean

_A_DAY = 86_400.0
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


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an upstream said was wrong, fit to be repeated; an empty message if it said nothing."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None


def complaint_of(body: object, clean: Clean) -> Complaint:
    """Read an error in OpenAI's shape, or in one of the shapes of servers like it."""
    match body:
        case Mapping():
            said = next((body[k] for k in ("message", "detail", "error") if body.get(k)), "")
            text = said if isinstance(said, str) else json.dumps(said, default=str)
            words = (_word(body.get(name), clean) for name in ("type", "code", "param"))
            return Complaint(clean(text), *words)
        case str() if not body.lstrip().startswith("<"):
            return Complaint(clean(body))
        case _:
            return Complaint()


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


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the upstream asks to wait: `retry-after-ms`, or `Retry-After`."""
    asked = _number(headers.get("retry-after-ms"))
    if asked is not None:
        return min(asked / 1000, _A_DAY)
    value = headers.get("retry-after")
    asked = _number(value)
    if asked is None and value is not None:
        asked = _seconds_until(value)
    return None if asked is None else min(asked, _A_DAY)


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


def _word(value: object, clean: Clean) -> str | None:
    return clean(str(value))[:200] if isinstance(value, str | int) and value != "" else None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds_until(date: str) -> float | None:
    try:
        return max(parsedate_to_datetime(date).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError, OSError):
        return None

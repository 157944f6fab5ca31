"""The codes a caller can meet, and which exception is which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.openai_protocol.codec import MalformedError
from server.openai_protocol.surrogates import fit
from server.upstream import port as upstream
from storage import port as storage


class Code(StrEnum):
    INVALID_REQUEST = "invalid_request"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    INVALID_API_KEY = "invalid_api_key"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    CONVERSATION_BUSY = "conversation_busy"
    ALREADY_EXISTS = "already_exists"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    REQUEST_TOO_LARGE = "request_too_large"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    DRAINING = "draining"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    INTERNAL = "internal"


class RefusedError(Exception):
    """A request that the core refuses before anything came of it."""

    def __init__(
        self, message: str, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after


class InvalidRequestError(RefusedError):
    """A missing or wrong field."""


class ContextLengthError(RefusedError):
    """This prompt alone is over the budget."""


class InvalidApiKeyError(RefusedError):
    """No key, or a wrong one."""


class PermissionDeniedError(RefusedError):
    """That origin or host may not come in."""


class RequestTooLargeError(RefusedError):
    """A body, frame or message over the limit."""


class RateLimitedError(RefusedError):
    """Too many requests; `retry_after` is in seconds."""


class CrowdedError(RateLimitedError):
    """No place is free for one more; whoever is refused so is better gone than waiting."""


class QuotaSpentError(RefusedError):
    """No tokens are left until the next day or month; `retry_after` is in seconds."""


class DrainingError(RefusedError):
    """The server is shutting down."""


#: What an asker is told that waits for no less than a whole answer, and would else get a piece.
INTERRUPTED = "The server was stopped before the answer was whole; ask again in a moment."


CODES: dict[type[BaseException], Code] = {
    InvalidRequestError: Code.INVALID_REQUEST,
    ContextLengthError: Code.CONTEXT_LENGTH_EXCEEDED,
    InvalidApiKeyError: Code.INVALID_API_KEY,
    PermissionDeniedError: Code.PERMISSION_DENIED,
    RequestTooLargeError: Code.REQUEST_TOO_LARGE,
    RateLimitedError: Code.RATE_LIMIT_EXCEEDED,
    CrowdedError: Code.RATE_LIMIT_EXCEEDED,
    QuotaSpentError: Code.INSUFFICIENT_QUOTA,
    DrainingError: Code.DRAINING,
    storage.NotFoundError: Code.NOT_FOUND,
    storage.AlreadyExistsError: Code.ALREADY_EXISTS,
    storage.BusyError: Code.CONVERSATION_BUSY,
    storage.ClaimedError: Code.CONVERSATION_BUSY,
    storage.NotNextError: Code.CONVERSATION_BUSY,
    storage.MovedError: Code.CONVERSATION_BUSY,
    storage.IdempotencyMismatchError: Code.IDEMPOTENCY_MISMATCH,
    storage.UnavailableError: Code.STORAGE_UNAVAILABLE,
    upstream.UpstreamOverflowError: Code.CONTEXT_LENGTH_EXCEEDED,
    upstream.UpstreamRejectedError: Code.UPSTREAM_REJECTED,
    upstream.UpstreamRateLimitedError: Code.RATE_LIMIT_EXCEEDED,
    upstream.UpstreamQuotaError: Code.RATE_LIMIT_EXCEEDED,
    upstream.UpstreamFailedError: Code.UPSTREAM_FAILED,
    upstream.UpstreamBrokeError: Code.UPSTREAM_FAILED,
    upstream.UpstreamLoadingError: Code.UPSTREAM_FAILED,
    upstream.UpstreamTimeoutError: Code.UPSTREAM_TIMEOUT,
    MalformedError: Code.UPSTREAM_FAILED,
}


def code_of(error: BaseException) -> Code:
    """Return the code of the nearest ancestor that has one."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), Code.INTERNAL)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a caller is told of it; every wire renders this and nothing else."""

    code: Code
    message: str
    param: str | None = None
    #: seconds after which trying again may help
    retry_after: float | None = None
    #: the upstream's own HTTP status, for `upstream_rejected`
    status: int | None = None
    turn_id: str | None = None
    #: the upstream's own code, where it was the upstream that refused
    upstream_code: str | None = None


#: Where waiting helps, and how many seconds of it, unless somebody knows better.
WAITING_HELPS = {
    Code.CONVERSATION_BUSY: 1.0,
    Code.RATE_LIMIT_EXCEEDED: 1.0,
    Code.DRAINING: 5.0,
    Code.STORAGE_UNAVAILABLE: 1.0,
}


def problem_of(error: BaseException) -> Problem:
    """Describe an exception; an internal one never shows its text."""
    code = code_of(error)
    if code is Code.INTERNAL:
        return Problem(code, "Something went wrong on our side.")
    helps = WAITING_HELPS.get(code) if getattr(error, "waiting_helps", True) else None
    retry_after = getattr(error, "retry_after", None) or helps
    return Problem(
        code,
        fit(str(error)),
        param=getattr(error, "param", None),
        retry_after=retry_after,
        status=getattr(error, "status", None),
        upstream_code=getattr(error, "code", None),
    )

"""A turn that failed, as the error that a client of `/v1` is told of it."""

from __future__ import annotations

from server.core.errors import Code, ContextLengthError
from server.openai_protocol.errors import Complaint, code_in
from server.upstream.port import (
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from storage.model import Turn


def failure_of(turn: Turn) -> Exception:
    """Name what a turn failed of, as it is kept, or as it was told while it was live."""
    if (error := turn.error) is None:
        return UpstreamFailedError("The turn failed.")
    message, status = error.message, error.status
    match error.code:
        case Code.RATE_LIMIT_EXCEEDED:
            return UpstreamRateLimitedError(message, error.retry_after)
        case Code.UPSTREAM_REJECTED:
            status = status or 400
            code = error.upstream_code or code_in(Complaint(message), status)
            return UpstreamRejectedError(message, status, code, error.param)
        case Code.UPSTREAM_TIMEOUT:
            return UpstreamTimeoutError(message)
        case Code.CONTEXT_LENGTH_EXCEEDED:
            return ContextLengthError(message, error.param)
        case _:
            return UpstreamFailedError(message)

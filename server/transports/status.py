"""The one table: what each error code is on each wire."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from server.core.access.rate import Allowance, span
from server.core.errors import INTERRUPTED, WAITING_HELPS, Code, Problem
from storage.model import Status, Turn


@dataclass(frozen=True, slots=True)
class Wire:
    """An error code as HTTP status, gRPC status and OpenAI error type."""

    http: int
    grpc: grpc.StatusCode
    openai: str


WIRE: Mapping[Code, Wire] = {
    Code.INVALID_REQUEST: Wire(400, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request_error"),
    Code.CONTEXT_LENGTH_EXCEEDED: Wire(
        400, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request_error"
    ),
    Code.INVALID_API_KEY: Wire(401, grpc.StatusCode.UNAUTHENTICATED, "invalid_request_error"),
    Code.PERMISSION_DENIED: Wire(403, grpc.StatusCode.PERMISSION_DENIED, "permission_error"),
    Code.NOT_FOUND: Wire(404, grpc.StatusCode.NOT_FOUND, "invalid_request_error"),
    Code.CONVERSATION_BUSY: Wire(409, grpc.StatusCode.ABORTED, "conflict_error"),
    Code.ALREADY_EXISTS: Wire(409, grpc.StatusCode.ALREADY_EXISTS, "conflict_error"),
    Code.IDEMPOTENCY_MISMATCH: Wire(422, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request_error"),
    Code.REQUEST_TOO_LARGE: Wire(413, grpc.StatusCode.RESOURCE_EXHAUSTED, "invalid_request_error"),
    Code.RATE_LIMIT_EXCEEDED: Wire(429, grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limit_error"),
    Code.INSUFFICIENT_QUOTA: Wire(429, grpc.StatusCode.RESOURCE_EXHAUSTED, "insufficient_quota"),
    Code.UPSTREAM_REJECTED: Wire(400, grpc.StatusCode.FAILED_PRECONDITION, "invalid_request_error"),
    Code.UPSTREAM_FAILED: Wire(502, grpc.StatusCode.INTERNAL, "server_error"),
    Code.UPSTREAM_TIMEOUT: Wire(504, grpc.StatusCode.DEADLINE_EXCEEDED, "server_error"),
    Code.DRAINING: Wire(503, grpc.StatusCode.UNAVAILABLE, "server_error"),
    Code.STORAGE_UNAVAILABLE: Wire(503, grpc.StatusCode.UNAVAILABLE, "server_error"),
    Code.INTERNAL: Wire(500, grpc.StatusCode.INTERNAL, "server_error"),
}


def http_status(problem: Problem) -> int:
    """Return the HTTP status; an upstream's own 4xx is passed on."""
    if problem.code is Code.UPSTREAM_REJECTED and problem.status:
        return problem.status
    return WIRE[problem.code].http


def http_body(problem: Problem) -> dict[str, Any]:
    """Return the error in OpenAI's shape."""
    error: dict[str, Any] = {
        "message": problem.message,
        "type": WIRE[problem.code].openai,
        "param": problem.param,
        "code": problem.code.value,
    }
    if problem.turn_id is not None:
        error["turn_id"] = problem.turn_id
    return {"error": error}


def http_headers(problem: Problem) -> dict[str, str]:
    """Return the headers that go with an error."""
    headers: dict[str, str] = {}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after)))
    if problem.code is Code.INVALID_API_KEY:
        headers["www-authenticate"] = "Bearer"
    taken_back = problem.code is Code.CONVERSATION_BUSY and problem.retry_after is None
    if problem.code is Code.INSUFFICIENT_QUOTA or taken_back:
        headers["x-should-retry"] = "false"  # which OpenAI's clients ask before they try again
    return headers


def rate_headers(allowance: Allowance) -> dict[str, str]:
    """Return what is left of a rate in OpenAI's headers, which gRPC has as trailers."""
    return {
        "x-ratelimit-limit-requests": str(allowance.limit),
        "x-ratelimit-remaining-requests": str(allowance.remaining),
        "x-ratelimit-reset-requests": span(allowance.full_after),
    }


def problem_of_turn(turn: Turn) -> Problem | None:
    """Describe a turn without a whole answer as the error that a plain answer would have been.

    A cancelled one is none: somebody wanted the answer to end there.
    """
    if turn.status is Status.INTERRUPTED:
        wait = WAITING_HELPS[Code.DRAINING]
        return Problem(Code.DRAINING, INTERRUPTED, retry_after=wait, turn_id=turn.id)
    if turn.error is None:
        return None
    code = Code(turn.error.code)
    return Problem(
        code,
        turn.error.message,
        retry_after=turn.error.retry_after or WAITING_HELPS.get(code),
        status=turn.error.status,
        turn_id=turn.id,
    )

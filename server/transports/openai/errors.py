"""Errors as OpenAI's API has them, whoever raised them: never in our own words for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
import structlog
from starlette.responses import Response

from server.core.errors import Code, Problem, code_of, problem_of
from server.openai_protocol.errors import ApiError, one_line, type_of
from server.transports.status import http_headers, http_status

log = structlog.get_logger("trialogue.openai")

_INTERNAL = "The server had an error while processing your request. Sorry about that!"
#: what OpenAI has a code for; other errors of ours have none there
_CODES = frozenset(
    {
        Code.INVALID_API_KEY,
        Code.CONTEXT_LENGTH_EXCEEDED,
        Code.RATE_LIMIT_EXCEEDED,
        Code.INSUFFICIENT_QUOTA,
        Code.REQUEST_TOO_LARGE,
    }
)


@dataclass
class PassedOnError(Exception):
    """An upstream's refusal, to be passed on as it is."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class ClientLeftError(Exception):
    """Nobody is there any more to be answered."""


def refusal(error: BaseException) -> Response:
    """Return the answer that an error is on `/v1`."""
    match error:
        case PassedOnError():
            return _json(error.body, error.status, error.headers)
        case ApiError():
            return _json(error.body(), error.status, error.headers)
    problem = problem_of(error)
    status = http_status(problem)
    headers = http_headers(problem)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return _json(_body(problem, status, error), status, headers)


def note(error: Exception, request_id: str) -> None:
    """Log what is our fault; the text of an upstream's error may quote a prompt."""
    if not isinstance(error, ApiError | PassedOnError) and code_of(error) is Code.INTERNAL:
        log.exception("request broke", request_id=request_id)


def unknown_url(method: str, path: str, who: str = "This server") -> ApiError:
    """Return the refusal of a route that there is not; `who` has it not."""
    return ApiError(
        f"Unknown request URL: {method} {path}. {who} has no such route.",
        code="unknown_url",
        status=404,
    )


def no_route_of_eliza(method: str, path: str) -> ApiError:
    """Return the refusal of a route that only a real upstream could have."""
    return unknown_url(method, path, "The built-in Eliza, who answers here,")


def wrong_method(method: str, path: str, allowed: str) -> ApiError:
    return ApiError(
        f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use {allowed}?)",
        code="method_not_supported",
        status=405,
        headers={"allow": allowed},
    )


def _body(problem: Problem, status: int, error: BaseException) -> bytes:
    code: str | None = problem.code if problem.code in _CODES else None
    if problem.code is Code.UPSTREAM_REJECTED:
        code = getattr(error, "code", None)
    message = _INTERNAL if problem.code is Code.INTERNAL else one_line(problem.message)
    kind = code if problem.code is Code.INSUFFICIENT_QUOTA else type_of(status)
    told = {"message": message, "type": kind, "param": problem.param, "code": code}
    return orjson.dumps({"error": told})


def _json(body: bytes, status: int, headers: Mapping[str, str]) -> Response:
    own = {name: value for name, value in headers.items() if name != "content-length"}
    return Response(body, status, {**own, "content-type": "application/json"})

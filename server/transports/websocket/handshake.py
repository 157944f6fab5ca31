"""What a websocket's port answers in HTTP: the same errors and request ids as every HTTP answer."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from websockets.http11 import Request, Response

from server.core.errors import WAITING_HELPS, Code, Problem
from server.core.observability.request import request_id
from server.transports.status import http_body, http_headers

SWITCHING_PROTOCOLS = 101
REQUEST_ID = "X-Request-Id"
JSON = "application/json"
#: Characters of a message; the library's may quote a header.
LONGEST = 500

_CODES: Mapping[int, Code] = {500: Code.INTERNAL, 503: Code.DRAINING}


def given_id(request: Request) -> str | None:
    """Return the request id that a client gave, if it gave one."""
    return {name.lower(): value for name, value in request.headers.raw_items()}.get("x-request-id")


def complete(response: Response) -> None:
    """Give an answer its request id, and an error our shape where it has none of its path's."""
    if REQUEST_ID not in response.headers:
        response.headers[REQUEST_ID] = request_id(None)
    if response.status_code == SWITCHING_PROTOCOLS or response.headers.get("Content-Type") == JSON:
        return
    problem = _problem(response)
    response.body = orjson.dumps(http_body(problem))
    told = {
        "Content-Type": JSON,
        "Content-Length": str(len(response.body)),
        **http_headers(problem),
    }
    for name, value in told.items():
        if name in response.headers:
            del response.headers[name]
        response.headers[name] = value


def _problem(response: Response) -> Problem:
    code = _CODES.get(response.status_code, Code.INVALID_REQUEST)
    if code is Code.INTERNAL:
        return Problem(code, "Something went wrong on our side.")
    said = " ".join(response.body.decode(errors="replace").split())
    return Problem(code, said[:LONGEST], retry_after=WAITING_HELPS.get(code))

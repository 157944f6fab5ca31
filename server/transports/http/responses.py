"""JSON as HTTP sends it, and how our errors look in it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import JSONResponse, Response

from server.core.errors import Problem
from server.transports.status import http_body, http_headers, http_status

#: What the log shows of a client that left before its answer (nginx's number for it).
GONE = 499


class JSON(JSONResponse):
    """A JSON response, written by the fast encoder; described as JSON, since the class says so."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def refusal(problem: Problem) -> Response:
    """Return an error in the one shape that all have."""
    return JSON(http_body(problem), status_code=http_status(problem), headers=http_headers(problem))

"""JSON as HTTP sends it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import JSONResponse

#: What the log shows of a client that left before its answer (nginx's number for it).
GONE = 499


class JSON(JSONResponse):
    """A JSON response, written by the fast encoder; described as JSON, since the class says so."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)

"""What the server says on a websocket, as bytes of JSON."""

from __future__ import annotations

from typing import Any

import orjson

from server.core.errors import Problem
from server.live.news import News
from server.transports import events

#: By which a client knows its answers: whatever it gave, it is repeated as it came.
RequestId = str | int | float


def frame(kind: str, request_id: RequestId | None = None, **fields: Any) -> bytes:
    """Return a frame that answers the client's frame of that request_id."""
    return addressed(orjson.dumps({"type": kind, **fields}), request_id)


def addressed(body: bytes, request_id: RequestId | None) -> bytes:
    """Add the request_id that the client gave, if it gave one, to an encoded object."""
    if request_id is None:
        return body
    return b'%b,"request_id":%b}' % (body[:-1], orjson.dumps(request_id))


def refusal(problem: Problem, request_id: RequestId | None) -> bytes:
    """Return an error frame."""
    error: dict[str, Any] = {
        "code": problem.code.value,
        "message": problem.message,
        "param": problem.param,
    }
    if problem.retry_after is not None:
        error["retry_after"] = problem.retry_after
    return frame("error", request_id, error=error)


class Encoder:
    """Encodes events; those who keep up share one event, and so its bytes."""

    def __init__(self) -> None:
        self._newest: News | None = None
        self._bytes = b""

    def encode(self, event: News, request_id: RequestId | None) -> bytes:
        if event is not self._newest:
            self._newest, self._bytes = event, orjson.dumps(events.event(event))
        return addressed(self._bytes, request_id)

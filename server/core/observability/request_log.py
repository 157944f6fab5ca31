"""One log line, one count and one span for each request, on every wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from server.core.observability.metrics import WIRE
from server.core.observability.observed import Observed
from server.core.observability.request import REQUEST, Request, request_id
from server.live.turn import LiveTurn

log = structlog.get_logger("trialogue.requests")

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
#: the status of a request whose caller was gone before there was one
LEFT = "left"


class Requests:
    """Begins and ends every request, on whichever wire."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    @contextmanager
    def within(
        self, wire: str, given_id: str | None = None, carrier: Mapping[str, str] = _NO_HEADERS
    ) -> Iterator[Request]:
        """Begin a request, and end it with the context."""
        request = self.begin(wire, given_id, carrier)
        try:
            yield request
        finally:
            self.end(request)
            unbind_contextvars("request_id", "trace_id")
            REQUEST.set(None)

    def begin(
        self, wire: str, given_id: str | None = None, carrier: Mapping[str, str] = _NO_HEADERS
    ) -> Request:
        """Begin a request in this context, and in those of all tasks that are begun in it."""
        request = Request(wire, request_id(given_id), self.observed.traces.request(wire, carrier))
        WIRE.set(wire)
        REQUEST.set(request)
        bind_contextvars(request_id=request.id)
        if request.span.trace_id is not None:
            bind_contextvars(trace_id=request.span.trace_id)
        return request

    def end(self, request: Request) -> None:
        """Write a request's line, count it, and end its span."""
        if request.status is None:
            request.status = LEFT
        seconds = request.seconds
        self.observed.metrics.request_ended(request.wire, str(request.status), seconds)
        log.info("request", **_line(request), ms=round(1000 * seconds, 1))
        request.span.end(request)


def _line(request: Request) -> dict[str, Any]:
    """Return what a request's line tells, without what does not apply to it."""
    told: dict[str, Any] = {
        "request_id": request.id,
        "wire": request.wire,
        "method": request.method,
        "route": request.name,
        "status": request.status,
        "owner": request.owner,
        "conversation": request.conversation_id,
        "turn": request.turn_id,
        **_of_turn(request.live),
    }
    if request.live is None and request.first is not None:
        told["first_ms"] = round(1000 * request.first, 1)
    return {name: value for name, value in told.items() if value is not None}


def _of_turn(live: LiveTurn | None) -> dict[str, Any]:
    if live is None:
        return {}
    usage = live.turn.usage
    first = None if live.first is None else round(1000 * (live.first - live.began), 1)
    return {
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "first_ms": first,
    }

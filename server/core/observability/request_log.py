"""A request as it is seen from outside: its line in the log, its count, its span."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from server.core.errors import code_of
from server.core.observability.metrics import WIRE, Metrics
from server.core.observability.traces import RequestSpan, Traces
from server.live.turn import LiveTurn
from storage.model import Turn

log = structlog.get_logger("trialogue.requests")

_FIT = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
#: the status of a request whose caller was gone before there was one
LEFT = "left"


def request_id(given: str | None) -> str:
    """Return the caller's own request id where it is fit to be shown, else a new one."""
    if isinstance(given, str) and _FIT.fullmatch(given):
        return given
    return f"req_{secrets.token_hex(12)}"


class Request:
    """What is known of a request so far; whoever learns more notes it here."""

    def __init__(self, wire: str, id: str, span: RequestSpan) -> None:  # noqa: A002
        self.wire = wire
        self.id = id
        self.span = span
        #: the route or method, never the path: that is in the caller's own words
        self.name: str | None = None
        self.method: str | None = None
        self.owner: str | None = None
        #: in the words of its wire
        self.status: int | str | None = None
        self.conversation_id: str | None = None
        self.turn_id: str | None = None
        #: the turn that it began
        self.live: LiveTurn | None = None
        #: seconds until the first byte of an answer that is passed on as it comes
        self.first: float | None = None
        self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long it has taken until now."""
        return time.perf_counter() - self._since

    def began(self, live: LiveTurn) -> None:
        """Note the turn that it began."""
        self.live = live
        self.conversation_id, self.turn_id = live.turn.conversation_id, live.turn.id


#: The request that is being answered, for whoever learns more of it.
REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


def broke(error: Exception) -> None:
    """Note what the request that is being answered is refused with."""
    if (request := REQUEST.get()) is not None:
        request.status = code_of(error).value


def about(turn: Turn) -> None:
    """Note the turn that the request which is being answered is about; the first one counts."""
    request = REQUEST.get()
    if request is not None and request.turn_id is None:
        request.conversation_id, request.turn_id = turn.conversation_id, turn.id


class Requests:
    """Begins and ends every request, on whichever wire."""

    def __init__(self, metrics: Metrics, traces: Traces) -> None:
        self._metrics = metrics
        self._traces = traces

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
        request = Request(wire, request_id(given_id), self._traces.request(wire, carrier))
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
        self._metrics.request_ended(request.wire, str(request.status), seconds)
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

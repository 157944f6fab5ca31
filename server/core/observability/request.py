"""The request that is being answered: its id, what is logged of it, its span."""

from __future__ import annotations

import re
import secrets
import time
from contextvars import ContextVar
from typing import Protocol

from server.core.errors import code_of
from server.live.turn import LiveTurn
from storage.model import Turn

_FIT = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


def request_id(given: str | None) -> str:
    """Return the caller's own request id where it is fit to be shown, else a new one."""
    if isinstance(given, str) and _FIT.fullmatch(given):
        return given
    return f"req_{secrets.token_hex(12)}"


class Request:
    """What is known of a request so far, a field for each of its log line's.

    Whoever learns more notes it here.
    """

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


class RequestSpan(Protocol):
    """A request that is being answered; `trace_id` is for the log."""

    trace_id: str | None

    def end(self, request: Request) -> None: ...

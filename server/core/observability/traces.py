"""The tracing port: spans for requests and turns; the default does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from server.core.observability.request import RequestSpan
from server.upstream.port import Prompt
from storage.model import Turn


class TurnSpan(Protocol):
    """A turn that is being written."""

    def end(self, turn: Turn, first: float | None) -> None:
        """Note its end; `first` is the seconds from its beginning to its first text."""
        ...


class Traces(Protocol):
    """Begins spans. Never tells what was asked, answered or shown as a key."""

    def request(self, wire: str, carrier: Mapping[str, str]) -> RequestSpan:
        """Begin a request's span, within the caller's where `carrier` has a `traceparent`."""
        ...

    def turn(self, turn: Turn, prompt: Prompt, within: RequestSpan | None) -> TurnSpan:
        """Begin a turn's span, within the request's that began it."""
        ...


class _Nobody:
    trace_id: str | None = None

    def end(self, *_: object) -> None: ...


class NoTraces:
    """Tells nobody."""

    def __init__(self) -> None:
        self._nobody = _Nobody()

    def request(self, wire: str, carrier: Mapping[str, str]) -> RequestSpan:
        return self._nobody

    def turn(self, turn: Turn, prompt: Prompt, within: RequestSpan | None) -> TurnSpan:
        return self._nobody

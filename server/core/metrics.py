"""What is counted of turns, for Prometheus: by model, wire and status, never by whose they are."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from server.upstream.models import MODELS, model
from storage.model import Turn

#: The wire that a request came by; every transport sets it where a request begins.
WIRE: ContextVar[str] = ContextVar("wire", default="internal")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_KNOWN = frozenset(row.name for row in MODELS)
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
_PER_TOKEN = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_DRIFT = (-1000.0, -100.0, -30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)


class Metrics:
    """A registry of its own: several servers in one process do not meet in it."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        labels = ("model", "wire")
        self._turns = Counter(
            "trialogue_turns", "Turns that ended", (*labels, "status"), registry=registry
        )
        self._failures = Counter(
            "trialogue_turn_failures", "Turns that failed, by code", ("status",), registry=registry
        )
        self._prompt_tokens = Counter(
            "trialogue_prompt_tokens", "Tokens sent", labels, registry=registry
        )
        self._answer_tokens = Counter(
            "trialogue_completion_tokens", "Tokens of answers", labels, registry=registry
        )
        self._first = Histogram(
            "trialogue_time_to_first_token_seconds",
            "From the beginning of a turn to its first text",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self._each = Histogram(
            "trialogue_time_per_token_seconds",
            "Between tokens of an answer, on average over it",
            labels,
            buckets=_PER_TOKEN,
            registry=registry,
        )
        self._drift = Histogram(
            "trialogue_prompt_token_drift",
            "The upstream's count of a prompt's tokens less ours",
            ("model",),
            buckets=_DRIFT,
            registry=registry,
        )

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:  # noqa: A002
        """Show a number that is read whenever somebody looks."""
        Gauge(f"trialogue_{name}", help, registry=self._registry).set_function(read)

    def turn_ended(self, turn: Turn, first: float | None, seconds: float) -> None:
        """Count a turn; `first` and `seconds` are from its beginning to its first text and end."""
        name = model_label(turn.model)
        wire = WIRE.get()
        self._turns.labels(name, wire, turn.status.value).inc()
        if turn.error is not None:
            self._failures.labels(turn.error.code).inc()
        if turn.usage is not None:
            self._prompt_tokens.labels(name, wire).inc(turn.usage.prompt_tokens)
            self._answer_tokens.labels(name, wire).inc(turn.usage.completion_tokens)
        if first is not None:
            self._first.labels(name, wire).observe(first)
            if turn.usage is not None and turn.usage.completion_tokens > 1:
                each = (seconds - first) / (turn.usage.completion_tokens - 1)
                self._each.labels(name, wire).observe(each)
        if turn.drift is not None:
            self._drift.labels(name).observe(turn.drift)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


def model_label(name: str) -> str:
    """Return a model's name as a label: callers may send any, so unknown ones are one."""
    known = model(name).name
    return known if known in _KNOWN else "other"

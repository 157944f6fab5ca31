"""What is counted, for Prometheus: by model, wire and status, never by whose it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from server.tokens.models import MODELS, model
from storage.model import Turn

#: The wire that a request came by; every transport sets it where a request begins.
INTERNAL = "internal"
WIRE: ContextVar[str] = ContextVar("wire", default=INTERNAL)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "trialogue_"
_KNOWN = frozenset(row.name for row in MODELS)
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
_LONG = (0.003, *_SECONDS, 300.0, 600.0)
_PER_TOKEN = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_DRIFT = (-1000.0, -100.0, -30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)

#: A number, or numbers by the value of a row's one label; read whenever somebody looks.
Reading = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric; those that are `read` belong to whoever knows the number."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    read: bool = False

    @property
    def shown(self) -> tuple[str, ...]:
        """The names under which Prometheus finds it."""
        name = f"{PREFIX}{self.name}"
        match self.kind:
            case "counter":
                return (f"{name}_total",)
            case "histogram":
                # What may be negative has no sum: going down would be taken for a restart.
                total = (f"{name}_sum",) if self.buckets[0] >= 0 else ()
                return (f"{name}_bucket", f"{name}_count", *total)
            case "gauge":
                return (name,)


_WHOSE = ("model", "wire")
ROWS = (
    Row("requests", "counter", "Requests, calls and frames that ended", ("wire", "status")),
    Row(
        "request_seconds",
        "histogram",
        "From the beginning of a request to the end of its answer; a stream's is its whole life",
        ("wire",),
        _LONG,
    ),
    Row("turns", "counter", "Turns that ended", (*_WHOSE, "status")),
    Row("turn_failures", "counter", "Turns that failed, by the code of the error", ("status",)),
    Row("prompt_tokens", "counter", "Tokens sent for turns", _WHOSE),
    Row("completion_tokens", "counter", "Tokens of turns' answers", _WHOSE),
    Row(
        "time_to_first_token_seconds",
        "histogram",
        "From the beginning of a turn to its first text",
        _WHOSE,
        _SECONDS,
    ),
    Row(
        "time_per_token_seconds",
        "histogram",
        "Between tokens of an answer, on average over it",
        _WHOSE,
        _PER_TOKEN,
    ),
    Row(
        "prompt_token_drift",
        "histogram",
        "The upstream's count of a prompt's tokens less ours",
        ("model",),
        _DRIFT,
    ),
    Row("turns_running", "gauge", "Turns being written", read=True),
    Row("turns_waiting", "gauge", "Asks in line behind a turn of their conversation", read=True),
    Row("followers", "gauge", "Followers of live turns, on all wires", read=True),
    Row("database_queue", "gauge", "Writes in line for the database", read=True),
    Row("upstream_calls", "gauge", "Calls of `/v1` being answered", read=True),
    Row("upstream_attempts", "counter", "Times that an upstream was called", read=True),
    Row(
        "upstream_failures",
        "counter",
        "Times that an upstream did not answer, or with 429 or 5xx, or broke off",
        read=True,
    ),
    Row("nodes", "gauge", "Servers that use the database, as this one sees them", read=True),
    Row(
        "node_holds_its_turns",
        "gauge",
        "1 while this server may tell what it writes, 0 where others may take it for dead",
        read=True,
    ),
    Row("turns_mirrored", "gauge", "Turns of other servers that are followed here", read=True),
    Row(
        "upstreams",
        "gauge",
        "Upstreams that are ok, failing (their last call failed) or resting (left alone)",
        ("status",),
        read=True,
    ),
)
_BY_NAME = {row.name: row for row in ROWS}


class Metrics:
    """A registry of its own: several servers in one process do not meet in it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = self._counter("requests")
        self._request_seconds = self._histogram("request_seconds")
        self._turns = self._counter("turns")
        self._failures = self._counter("turn_failures")
        self._prompt_tokens = self._counter("prompt_tokens")
        self._answer_tokens = self._counter("completion_tokens")
        self._first = self._histogram("time_to_first_token_seconds")
        self._each = self._histogram("time_per_token_seconds")
        self._drift = self._histogram("prompt_token_drift")

    def show(self, name: str, read: Callable[[], Reading]) -> None:
        """Show what is read whenever somebody looks."""
        row = _BY_NAME[name]
        assert row.read  # noqa: S101 - the others are counted here
        self._registry.register(_Read(row, read))

    def request_ended(self, wire: str, status: str, seconds: float) -> None:
        """Count a request; `status` is in the words of its wire."""
        self._requests.labels(wire, status).inc()
        self._request_seconds.labels(wire).observe(seconds)

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

    def _counter(self, name: str) -> Counter:
        row = _BY_NAME[name]
        return Counter(f"{PREFIX}{name}", row.help, row.labels, registry=self._registry)

    def _histogram(self, name: str) -> Histogram:
        row = _BY_NAME[name]
        return Histogram(
            f"{PREFIX}{name}", row.help, row.labels, buckets=row.buckets, registry=self._registry
        )


class _Read(Collector):
    """A metric whose numbers are known elsewhere."""

    def __init__(self, row: Row, read: Callable[[], Reading]) -> None:
        self._row = row
        self._read = read

    def collect(self) -> Iterable[Metric]:
        row = self._row
        make = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
        family = make(f"{PREFIX}{row.name}", row.help, labels=row.labels)
        value = self._read()
        numbers = value if isinstance(value, Mapping) else {"": value}
        for label, number in numbers.items():
            family.add_metric([label] if row.labels else [], number)
        yield family


def model_label(name: str) -> str:
    """Return a model's name as a label: callers may send any, so unknown ones are one."""
    known = model(name).name
    return known if known in _KNOWN else "other"

"""Who is told of requests and turns: the metrics, and the traces."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.core.observability.metrics import Metrics
from server.core.observability.traces import NoTraces, Traces


@dataclass(frozen=True, slots=True)
class Observed:
    """Both are told at the end of each request and each turn; by default there are no traces."""

    metrics: Metrics = field(default_factory=Metrics)
    traces: Traces = field(default_factory=NoTraces)

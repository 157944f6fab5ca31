"""Shows from outside what no part of the core knows: how the upstreams do."""

from __future__ import annotations

from collections import Counter

from server.core.observability.metrics import Metrics
from server.upstream.health import STATES
from server.upstream.pool import Upstreams


def show_upstreams(metrics: Metrics, upstreams: Upstreams) -> None:
    """Let the metrics show how the upstreams do."""

    def by_state() -> dict[str, float]:
        found = Counter(state.word for state in upstreams.state())
        return {state: found[state] for state in STATES}

    metrics.show("upstreams", by_state)
    metrics.show("upstream_calls", lambda: upstreams.running)
    metrics.show("upstream_attempts", lambda: sum(one.calls for one in upstreams.state()))
    metrics.show("upstream_failures", lambda: sum(one.failures for one in upstreams.state()))

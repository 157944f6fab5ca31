"""Makes the core: what begins, runs, follows and records turns, each with what it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.core.access.capacity import Capacity
from server.core.access.concurrency import Room
from server.core.access.token_budget import TokenBudget
from server.core.clock import microseconds
from server.core.conversations import Conversations
from server.core.ids import Ids
from server.core.observability.observed import Observed
from server.core.observability.request_log import Requests
from server.core.observability.traces import NoTraces, Traces
from server.core.passthrough import Passthrough
from server.core.prompt.compaction import Compaction
from server.core.prompt.compose import Composer
from server.core.prompt.learning import Learning
from server.core.turns.begin import Asking
from server.core.turns.checkpoint import CHECKPOINT_SECONDS, Checkpoints
from server.core.turns.follow import Following
from server.core.turns.outcome import Outcomes
from server.core.turns.plan import Defaults, Planner
from server.core.turns.record import PATIENCE, Keeping
from server.core.turns.run import Running
from server.live.memory import MemoryLiveTurns
from server.live.port import LiveTurns
from server.mcp.port import Toolbox
from server.upstream.pool import UpstreamPool
from server.upstream.port import Models, ModelTable, Upstream
from storage.port import Store


@dataclass(frozen=True, slots=True)
class _Parts:
    """What all parts of one core share."""

    store: Store
    upstream: Upstream
    planner: Planner
    live: LiveTurns
    observed: Observed


def core_of(
    store: Store,
    upstream: Upstream,
    defaults: Defaults,
    *,
    now: Callable[[], int] = microseconds,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    patience: float = PATIENCE,
    traces: Traces | None = None,
    shared: Callable[[], bool] = lambda: True,
    models: Models | None = None,
    live: LiveTurns | None = None,
    toolbox: Toolbox | None = None,
) -> Conversations:
    """Return conversations over a store, written by an upstream; a pool answers calls as well.

    `patience` is in seconds, for ends that cannot be kept; for `shared` see Room. `models`
    know windows; where none are named, a pool does. `live` is who is live, where that is not
    known to this process alone, and `toolbox` has the tools that we run ourselves.
    """
    ids = Ids(now)
    pool = upstream if isinstance(upstream, UpstreamPool) else None
    composer = Composer(store, defaults.counting, models or pool or ModelTable(), Learning(now))
    planner = Planner(store, composer, defaults, ids, toolbox)
    live = live or MemoryLiveTurns(defaults.limits.waiting)
    parts = _Parts(store, upstream, planner, live, Observed(traces=traces or NoTraces()))
    capacity = _capacity(store, defaults, now, shared)
    running = _running(parts, checkpoint_seconds, patience)
    compaction = Compaction(store, upstream, planner.composer, ids, defaults.upstreams)
    passthrough = Passthrough(pool or UpstreamPool(()), capacity)
    _show(parts, passthrough)
    return Conversations(
        store,
        planner,
        Asking(store, planner, live, capacity, running, compaction),
        Following(store, live),
        passthrough,
        Requests(parts.observed),
    )


def _capacity(
    store: Store, defaults: Defaults, now: Callable[[], int], shared: Callable[[], bool]
) -> Capacity:
    room = Room(defaults.upstreams.answers, "turns and calls", shared)
    return Capacity(TokenBudget(store, defaults.budget, now), room, defaults.limits)


def _running(parts: _Parts, checkpoint_seconds: float, patience: float) -> Running:
    keeping = Keeping(parts.store, parts.live, patience)
    return Running(
        parts.upstream,
        parts.live,
        keeping,
        Checkpoints(parts.store, parts.live, keeping, checkpoint_seconds),
        Outcomes(parts.planner.composer, parts.planner.ids),
        parts.observed,
    )


def _show(parts: _Parts, passthrough: Passthrough) -> None:
    """Let the metrics show how busy it is."""
    metrics, live = parts.observed.metrics, parts.live
    metrics.show("turns_running", lambda: len(live.running()))
    metrics.show("turns_waiting", lambda: live.waiting)
    metrics.show("followers", lambda: live.followers)
    metrics.show("database_queue", lambda: parts.store.waiting)
    metrics.show("upstream_calls", lambda: passthrough.running)

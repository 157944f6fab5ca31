"""The state that REST's handlers find in each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from server.core.conversations import Conversations
from server.transports.rest.sse import KEEP_ALIVE_SECONDS
from server.upstream.health import State


@dataclass(frozen=True, slots=True)
class RestState:
    """`upstreams` says how each has done; `keep_alive` is the silence a stream may have, in s.

    The page is told the ports, to say how to go on elsewhere. `others` is what another application
    on this port says of itself in /openapi.json.
    """

    core: Conversations
    upstreams: Callable[[], Sequence[State]] = tuple
    keep_alive: float = KEEP_ALIVE_SECONDS
    grpc_port: int | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


def behind(request: Request) -> RestState:
    found: RestState = request.state.behind
    return found


def core(request: Request) -> Conversations:
    return behind(request).core


def owner(request: Request) -> str:
    """Return whose request it is, as the gate found."""
    return str(request.state.owner)

"""Alive, ready, and in numbers: what whoever runs the server asks it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from server.core.observability.metrics import CONTENT_TYPE
from server.transports.http.responses import JSON
from server.transports.rest.schemas import ReadyShape, StateShape
from server.transports.rest.state import behind, core
from server.upstream.health import State

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}


class StateRoutes:
    """The routes."""

    def __init__(self) -> None:
        self.router = APIRouter(default_response_class=JSON)
        get = self.router.get
        get("/metrics", response_model=None, response_class=Response, responses=_TEXT)(self.metrics)
        for path in ("/healthz", "/health"):
            get(path, response_model=StateShape)(self.alive)
        described: dict[int | str, dict[str, Any]] = {200: {"model": ReadyShape}}
        get("/readyz", response_model=None, responses=described)(self.ready)
        # Described with GET: it is the same without a body, as some monitors ask.
        head = partial(self.router.head, response_model=None, include_in_schema=False)
        for path, answer in (
            ("/metrics", self.metrics),
            ("/healthz", self.alive),
            ("/health", self.alive),
            ("/readyz", self.ready),
        ):
            head(path)(answer)

    async def metrics(self, request: Request) -> Response:
        """Show what is counted, in Prometheus' text format."""
        return Response(core(request).metrics.render(), media_type=CONTENT_TYPE)

    async def alive(self) -> Response:
        """Say that the process answers."""
        return JSON({"status": "ok"})

    async def ready(
        self,
        request: Request,
        verbose: Annotated[
            str | None, Query(description="say how the upstreams do as well; any value, or none")
        ] = None,
    ) -> Response:
        """Say whether asks are taken: 503 while draining, or when the database is out of reach."""
        await core(request).ready()
        if verbose is None:
            return JSON({"status": "ready"})
        return JSON(
            {
                "status": "ready",
                "turns_running": core(request).running,
                "upstreams": [_upstream(state) for state in behind(request).upstreams()],
            }
        )


def _upstream(state: State) -> dict[str, Any]:
    return {
        "name": state.name,
        "state": state.word,
        "calls": state.calls,
        "failures": state.failures,
        "failures_in_a_row": state.failures_in_a_row,
        "resting_seconds": round(state.resting, 1),
        **state.detail,
    }

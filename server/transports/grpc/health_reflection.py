"""The services that every gRPC server is expected to have: health, and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from server.core.conversations import Conversations
from server.transports.grpc.handlers import Caller, Handler, Handlers
from storage.port import NotFoundError

HEALTH = health.SERVICE_NAME
REFLECTION = reflection.SERVICE_NAME
#: Same messages, newer name; newer clients ask for it first.
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

#: How often somebody who watches our health is looked after, in seconds.
LOOK_EVERY = 0.5


class HealthService:
    """Serving, until the core drains."""

    def __init__(self, conversations: Conversations, services: Sequence[str]) -> None:
        self._conversations = conversations
        self._services = frozenset(("", *services))

    def methods(self, calls: Handlers) -> Mapping[str, Handler]:
        asked, frame = HealthCheckRequest, HealthCheckResponse.SerializeToString
        return {
            "Check": calls.unary(asked, self.check, keyless=True),
            "Watch": calls.stream(asked, self.watch, frame, keyless=True),
        }

    async def check(self, caller: Caller, asked: HealthCheckRequest) -> HealthCheckResponse:
        if asked.service not in self._services:
            raise NotFoundError("There is no such service.", "service")
        return self._state(asked.service)

    async def watch(
        self, caller: Caller, asked: HealthCheckRequest
    ) -> AsyncGenerator[HealthCheckResponse, None]:
        return self._states(asked.service)

    async def _states(self, service: str) -> AsyncGenerator[HealthCheckResponse, None]:
        told = None
        while True:
            state = self._state(service)
            if state != told:
                yield state
                told = state
            await asyncio.sleep(LOOK_EVERY)

    def _state(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            state = "SERVICE_UNKNOWN"
        else:
            state = "NOT_SERVING" if self._conversations.draining else "SERVING"
        return HealthCheckResponse(status=state)


def reflection_methods(services: Sequence[str], calls: Handlers) -> Mapping[str, Handler]:
    """Return what tells clients such as grpcurl which services and messages there are."""
    servicer = reflection.aio.ReflectionServicer(services)

    def answers(asked: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        return servicer.ServerReflectionInfo(asked, None)  # type: ignore[no-any-return]

    return {"ServerReflectionInfo": calls.exchange(ServerReflectionRequest, answers)}

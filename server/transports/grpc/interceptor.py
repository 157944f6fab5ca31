"""Tells a gRPC call which method it is, and counts the calls of methods that there are not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from server.core.observability.request_log import Requests

#: The full name of the method that is called; gRPC tells it to interceptors alone.
METHOD: ContextVar[str | None] = ContextVar("method", default=None)

Details = grpc.HandlerCallDetails
Handler = Any


class RequestInterceptor(grpc.aio.ServerInterceptor):
    """Goes before every call, in the context that the call itself runs in."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def intercept_service(
        self,
        continuation: Callable[[Details], Awaitable[Handler]],
        handler_call_details: Details,
    ) -> Handler:
        METHOD.set(handler_call_details.method.lstrip("/"))
        handler = await continuation(handler_call_details)
        if handler is None:  # its name is the caller's own words
            with self._requests.within("grpc") as request:
                request.status = grpc.StatusCode.UNIMPLEMENTED.name
        return handler

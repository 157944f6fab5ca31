"""What surrounds every gRPC call: who calls, what was sent, and how it is refused."""

from __future__ import annotations

import re
import secrets
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from server.core.doors import Doors, bearer
from server.core.errors import (
    Code,
    InvalidRequestError,
    RefusedError,
    RequestTooLargeError,
    problem_of,
)
from server.transports.rpc_errors import refusal

log = structlog.get_logger("trialogue.rpc")

#: What a request id of the caller's own must look like to be echoed.
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)

Request = TypeVar("Request", bound=Message)
Event = TypeVar("Event")
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what the metadata says of this call. Without a key, `owner` is empty."""

    owner: str
    request_id: str
    idempotency_key: str | None = None


Answer = Callable[[Caller, Request], Awaitable[Message]]
Begin = Callable[[Caller, Request], Awaitable[AsyncGenerator[Event, None]]]
Exchange = Callable[[AsyncIterator[Request]], AsyncGenerator[Message, None]]


class Calls:
    """Makes method handlers that let callers in, read their messages and name their errors."""

    def __init__(self, doors: Doors, most_bytes: int) -> None:
        self._doors = doors
        self._most_bytes = most_bytes

    def unary(
        self, kind: type[Request], answer: Answer[Request], *, keyless: bool = False
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Answer one message with one."""

        async def call(sent: Request | RefusedError, context: Context) -> bytes:
            async with self._within(context, keyless=keyless) as caller:
                frame = (await answer(caller, _whole(sent))).SerializeToString()
            return frame

        return grpc.unary_unary_rpc_method_handler(call, self._reader(kind))

    def stream(
        self,
        kind: type[Request],
        begin: Begin[Request, Event],
        frame: Callable[[Event], bytes],
        *,
        keyless: bool = False,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Answer one message with many; what `begin` refuses is refused before the first."""

        async def call(sent: Request | RefusedError, context: Context) -> None:
            async with (
                self._within(context, keyless=keyless) as caller,
                aclosing(await begin(caller, _whole(sent))) as events,
            ):
                async for event in events:
                    await context.write(frame(event))

        return grpc.unary_stream_rpc_method_handler(call, self._reader(kind))

    def exchange(
        self, kind: type[Request], answers: Exchange[Request]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Answer each message of a stream as it comes."""

        async def call(
            sent: AsyncIterator[Request | RefusedError], context: Context
        ) -> None:
            async with (
                self._within(context),
                aclosing(answers(_whole(one) async for one in sent)) as replies,
            ):
                async for reply in replies:
                    await context.write(reply.SerializeToString())

        return grpc.stream_stream_rpc_method_handler(call, self._reader(kind))

    @asynccontextmanager
    async def _within(
        self, context: Context, *, keyless: bool = False
    ) -> AsyncIterator[Caller]:
        """Let a caller in; end the call with a status where anything is refused or breaks."""
        told = {name: value for name, value in context.invocation_metadata() or ()}
        request_id = _request_id(told.get("x-request-id"))
        trailers = (("x-request-id", request_id),)
        context.set_trailing_metadata(trailers)
        try:
            key = bearer(told.get("authorization"))
            owner = "" if keyless else await self._doors.owner(key)
            yield Caller(owner, request_id, told.get("idempotency-key") or None)
        except grpc.aio.BaseError:  # ended already, by an abort or by the caller
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke, the caller gets a status
            _report(error, request_id)
            refused = refusal(problem_of(error))
            await context.abort(refused.code, refused.message, trailers + refused.trailers)

    def _reader(self, kind: type[Request]) -> Callable[[bytes], Request | RefusedError]:
        """Return what reads a message; grpc would call one that is broken an internal error."""

        def read(raw: bytes) -> Request | RefusedError:
            if len(raw) > self._most_bytes:
                return RequestTooLargeError(
                    f"A message may have at most {self._most_bytes} bytes; this has {len(raw)}."
                )
            try:
                return kind.FromString(raw)
            except DecodeError:
                name = kind.DESCRIPTOR.full_name
                return InvalidRequestError(f"This is no {name}, or not all its text is UTF-8.")

        return read


def _whole(sent: Request | RefusedError) -> Request:
    if isinstance(sent, RefusedError):
        raise sent
    return sent


def _request_id(given: str | None) -> str:
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"req_{secrets.token_hex(12)}"


def _report(error: Exception, request_id: str) -> None:
    """Log what is our fault; an exception's own text may quote a prompt, so it stays out."""
    if problem_of(error).code is Code.INTERNAL:
        log.error(
            "call broke",
            request_id=request_id,
            error=type(error).__name__,
            traceback="".join(traceback.format_tb(error.__traceback__)),
        )

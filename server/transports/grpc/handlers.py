"""What surrounds every gRPC call: authentication, checks, and how it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    aclosing,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from server.config.limits import RpcLimits
from server.core.access.auth import Auth, bearer
from server.core.access.proxies import Forwarded
from server.core.access.revocation import GuardedReader, KeyWatch
from server.core.errors import (
    Code,
    InvalidRequestError,
    RateLimitedError,
    RefusedError,
    RequestTooLargeError,
    problem_of,
)
from server.core.observability.request import Request as Seen
from server.core.observability.request_log import Requests
from server.transports.grpc.errors import ProblemError, refusal
from server.transports.grpc.interceptor import METHOD
from server.transports.status import rate_headers

log = structlog.get_logger("trialogue.rpc")

Request = TypeVar("Request", bound=Message)
Event = TypeVar("Event")
# Generic in their stubs only, so written as text.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and with what key for which question. Where none is asked for, nobody does."""

    owner: str = ""
    key: str | None = field(default=None, repr=False)
    idempotency_key: str | None = None


Answer = Callable[[Caller, Request], Awaitable[Message]]
Begin = Callable[[Caller, Request], Awaitable[AsyncGenerator[Event, None]]]
Exchange = Callable[[AsyncIterator[Request]], AsyncGenerator[Message, None]]


class Handlers:
    """Makes method handlers that let callers in, read their messages and name their errors."""

    def __init__(
        self,
        auth: Auth,
        key_watch: KeyWatch,
        requests: Requests,
        most_bytes: int,
        limits: RpcLimits,
    ) -> None:
        self._auth = auth
        self._key_watch = key_watch
        self._requests = requests
        self._limits = limits
        self._most_bytes = most_bytes
        self._room = auth.room(limits.calls, "gRPC calls")

    def unary(
        self,
        kind: type[Request],
        answer: Answer[Request],
        *,
        keyless: bool = False,
        free: bool = False,
    ) -> Handler:
        """Answer one message with one; a `free` call does not count against the rate limit."""

        async def call(sent: Request | RefusedError, context: Context) -> bytes:
            async with self._within(context, keyless=keyless, free=free) as caller:
                with self._reading(caller, keyless=keyless) as reader:
                    answered = await reader.of(partial(answer, caller, _whole(sent)))
            return answered.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(call, self._reader(kind))

    def stream(
        self,
        kind: type[Request],
        begin: Begin[Request, Event],
        frame: Callable[[Event], bytes],
        *,
        keyless: bool = False,
        greet: bool = False,
        free: bool = False,
    ) -> Handler:
        """Answer one message with many; what `begin` refuses is refused before the first.

        `greet` sends the initial metadata at once, where the first message may be long in coming.
        """

        async def call(sent: Request | RefusedError, context: Context) -> None:
            async with self._within(context, keyless=keyless, free=free) as caller:
                with self._reading(caller, keyless=keyless) as reader:
                    begun = await reader.of(partial(begin, caller, _whole(sent)))
                    async with aclosing(begun) as events:
                        if greet:
                            await context.send_initial_metadata(())
                        async for event in reader.each(events):
                            await self._write(context, frame(event))

        return grpc.unary_stream_rpc_method_handler(call, self._reader(kind))

    def exchange(self, kind: type[Request], answers: Exchange[Request]) -> Handler:
        """Answer each message of a stream as it comes."""

        async def call(sent: AsyncIterator[Request | RefusedError], context: Context) -> None:
            # A refusal that crosses the first message is lost: the client of grpc.aio, which cannot
            # send it any more, takes that for an error within itself (INTERNAL).
            first = await anext(sent, None)
            async with (
                self._within(context) as caller,
                aclosing(answers(_whole(one) async for one in _after(first, sent))) as replies,
            ):
                with self._reading(caller) as reader:
                    async for reply in reader.each(replies):
                        await self._write(context, reply.SerializeToString())

        return grpc.stream_stream_rpc_method_handler(call, self._reader(kind))

    @asynccontextmanager
    async def _within(
        self, context: Context, *, keyless: bool = False, free: bool = False
    ) -> AsyncIterator[Caller]:
        """Let a caller in; end the call with a status where anything is refused or breaks."""
        told: dict[str, Any] = dict(context.invocation_metadata() or ())
        with self._requests.within("grpc", told.get("x-request-id"), told) as seen:
            seen.name = METHOD.get()
            async with self._let_through(context, seen, told, keyless, free) as caller:
                yield caller

    @asynccontextmanager
    async def _let_through(
        self, context: Context, seen: Seen, told: Mapping[str, Any], keyless: bool, free: bool
    ) -> AsyncIterator[Caller]:
        trailers: tuple[tuple[str, str], ...] = (("x-request-id", seen.id),)
        context.set_trailing_metadata(trailers)
        try:
            with ExitStack() as held:
                peer = _address(context)
                forwarded = self._auth.proxies.told(peer, _texts(context))
                held.enter_context(self._auth.addresses.call(peer, forwarded))
                caller = Caller() if keyless else await self._let_in(told, forwarded)
                seen.owner = caller.owner or None
                if not keyless:
                    held.enter_context(self._auth.owners.within(caller.owner))
                    held.enter_context(self._room.within(caller.owner))
                left = None if keyless or free else await self._auth.count(caller.owner)
                if left is not None:
                    trailers += tuple(rate_headers(left).items())
                    context.set_trailing_metadata(trailers)
                    left.check()
                yield caller
            seen.status = "OK"
        except grpc.aio.BaseError:  # ended already, by an abort or by the caller
            raise
        except Exception as error:
            problem = error.problem if isinstance(error, ProblemError) else problem_of(error)
            if problem.code is Code.INTERNAL:
                log.exception("call broke", request_id=seen.id)
            refused = refusal(problem)
            seen.status = refused.code.name
            await context.abort(refused.code, refused.message, trailers + refused.trailers)

    def _reading(
        self, caller: Caller, *, keyless: bool = False
    ) -> AbstractContextManager[GuardedReader]:
        return nullcontext(GuardedReader(None)) if keyless else self._key_watch.reading(caller.key)

    async def _write(self, context: Context, message: bytes) -> None:
        """Send a message; a caller who takes nothing of it is not waited for without end."""
        try:
            async with asyncio.timeout(self._limits.patience):
                await context.write(message)
        except TimeoutError:
            raise RateLimitedError("You read too slowly.") from None

    async def _let_in(self, told: Mapping[str, Any], forwarded: Forwarded) -> Caller:
        self._auth.check_origin(told.get("origin"), None, 0, forwarded)
        key = bearer(told.get("authorization"))
        owner = await self._auth.owner(key)
        return Caller(owner, key, told.get("idempotency-key") or None)

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


def _address(context: Context) -> str:
    """Return where a caller is, without its port: `ipv4:127.0.0.1:1234` is how gRPC tells."""
    return unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")


def _texts(context: Context) -> Iterator[tuple[str, str]]:
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            yield name, value


async def _after(
    first: Request | RefusedError | None, rest: AsyncIterator[Request | RefusedError]
) -> AsyncIterator[Request | RefusedError]:
    if first is not None:
        yield first
    async for one in rest:
        yield one


def _whole(sent: Request | RefusedError) -> Request:
    if isinstance(sent, RefusedError):
        raise sent
    return sent

"""The gRPC listener: binds, serves, and is built anew when a request breaks it."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import AsyncExitStack
from typing import Self

import grpc
import structlog

from server.config.limits import RpcLimits
from server.config.settings import Settings
from server.core.access.auth import Auth
from server.core.access.revocation import KeyWatch
from server.core.conversations import Conversations
from server.transports.grpc import easybackend, health_reflection, service
from server.transports.grpc.handlers import Handlers
from server.transports.grpc.interceptor import RequestInterceptor
from server.transports.grpc.log_filter import quiet
from server.transports.grpc.peers import SERVICE as PEER
from server.transports.grpc.peers import PeerService
from server.transports.tls import Certificate, certificate_of

log = structlog.get_logger("trialogue.rpc")

#: Bytes over the limit that are still read, so that a refusal can say what the limit is.
HEADROOM = 1 << 20
#: How often the listener makes sure that it is not broken, in seconds.
LOOK_EVERY = 0.05
#: Seconds that calls have to end in: when the listener leaves, and when their server broke.
GRACE_ON_LEAVING = 1.0
GRACE_OF_A_BROKEN_SERVER = 60.0
#: Seconds between tries to bind the port again, at first and at most.
BIND_AGAIN = (0.01, 1.0)

_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class RpcListener:
    """Async context manager: bound and serving once entered, stopped once left.

    A request whose `:path` is not UTF-8 ends the accept loop of grpc.aio (seen up to 1.85), its
    port with it. So the server is watched, and another takes its place on the same port; calls
    that run on the broken one go on. So it holds all that a new server is made of, and the server.
    """

    def __init__(
        self,
        conversations: Conversations,
        auth: Auth,
        settings: Settings,
        *,
        limits: RpcLimits | None = None,
        tls: Certificate | None = None,
        peers: PeerService | None = None,
    ) -> None:
        """`peers` lets other nodes in, where there may be any."""
        self._settings = settings
        self._tls = tls or certificate_of(settings)
        self._limits = limits or RpcLimits()
        self._key_watch = KeyWatch(auth, self._limits.check_keys_every)
        calls = Handlers(
            auth, self._key_watch, conversations.requests, settings.max_body_bytes, self._limits
        )
        self._handlers = _handlers(conversations, calls, peers)
        self._named = RequestInterceptor(conversations.requests)
        self._open = AsyncExitStack()
        self._broken: dict[asyncio.Task[None], grpc.aio.Server] = {}
        self._port = 0

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return self._port

    async def __aenter__(self) -> Self:
        self._server = self._new_server()
        self._port = await self._bind(self._settings.grpc_port)
        await self._server.start()
        self._open.enter_context(quiet())
        await self._open.enter_async_context(self._key_watch)
        self._watch = asyncio.create_task(self._keep_serving(), name="gRPC listener")
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._open:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            servers = (self._server, *self._broken.values())
            await asyncio.gather(*(server.stop(GRACE_ON_LEAVING) for server in servers))
            await asyncio.gather(*self._broken)

    async def _keep_serving(self) -> None:
        while True:
            if not await self._is_broken():
                continue
            log.warning("a malformed request broke the gRPC server: built anew", port=self._port)
            broken, self._server = self._server, self._new_server()
            retired = asyncio.create_task(broken.stop(GRACE_OF_A_BROKEN_SERVER))
            self._broken[retired] = broken
            retired.add_done_callback(self._broken.pop)
            await self._bind_again()
            await self._start()

    async def _is_broken(self) -> bool:
        # Without a time limit this would wait for the last call of the broken server to end.
        try:
            return not await self._server.wait_for_termination(LOOK_EVERY)
        except Exception:  # noqa: BLE001 - whatever ended its accept loop
            return True

    async def _bind_again(self) -> None:
        pause, longest = BIND_AGAIN
        while True:
            try:
                await self._bind(self._port)
                return
            except OSError:  # the broken server's socket is not closed yet
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _start(self) -> None:
        """Start the server whole even when cancelled: one half started cannot be stopped."""
        starting = asyncio.create_task(self._server.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting
            raise

    def _new_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=_options(self._settings.max_body_bytes, self._limits),
            maximum_concurrent_rpcs=self._limits.calls,
            interceptors=(self._named,),
        )
        server.add_generic_rpc_handlers(self._handlers)
        return server

    async def _bind(self, port: int) -> int:
        """Bind the port and return the one that it really is. Raises OSError."""
        host = self._settings.host
        await _probe(host, port)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._tls.grpc_credentials())
        except RuntimeError as error:
            with_tls = "" if self._tls is None else " with this TLS certificate and key"
            raise OSError(errno.EADDRNOTAVAIL, f"gRPC cannot listen{with_tls}", address) from error


def _handlers(
    conversations: Conversations, calls: Handlers, peers: PeerService | None
) -> tuple[grpc.GenericRpcHandler, ...]:
    ours = (service.SERVICE, easybackend.SERVICE)
    all_services = (*ours, health_reflection.HEALTH, health_reflection.REFLECTION)
    reflection = health_reflection.reflection_methods(all_services, calls)
    services = {
        service.SERVICE: service.ConversationService(conversations).methods(calls),
        easybackend.SERVICE: easybackend.EasyBackendService(conversations).methods(calls),
        health_reflection.HEALTH: health_reflection.HealthService(
            conversations, all_services
        ).methods(calls),
        health_reflection.REFLECTION: reflection,
        health_reflection.REFLECTION_V1: reflection,
        **({PEER: peers.methods()} if peers else {}),
    }
    return tuple(
        grpc.method_handlers_generic_handler(name, dict(methods))
        for name, methods in services.items()
    )


def _options(most_bytes: int, limits: RpcLimits) -> list[tuple[str, int]]:
    return [
        # Else a second server would share the port in silence.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", most_bytes + HEADROOM),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.keepalive_time_ms", _milliseconds(limits.ping_every)),
        ("grpc.keepalive_timeout_ms", _milliseconds(limits.ping_timeout)),
        # What bounds the answer to a ping; that above is TCP's own, and this alone would be 60 s.
        ("grpc.http2.ping_timeout_ms", _milliseconds(limits.ping_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _milliseconds(limits.least_between_pings),
        ),
        ("grpc.max_connection_idle_ms", _milliseconds(limits.idle_seconds)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(limits.handshake_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


async def _probe(host: str, port: int) -> None:
    """Raise what the system says of an address that cannot be had; gRPC does not tell."""
    loop = asyncio.get_running_loop()
    flags = socket.AI_PASSIVE
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
        except OSError as error:
            # "localhost" has an IPv6 address even where the machine has no IPv6.
            if len(found) == 1 or error.errno not in _NO_SUCH_FAMILY:
                raise

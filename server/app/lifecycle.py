"""The composition root: open, listen, wait, drain, close."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from server.app.access import auth_of
from server.app.characters import shaping_of
from server.app.core import core_of
from server.app.nodes import address_of, node_of, share_crowds, show_nodes
from server.app.signals import Stopping
from server.app.stores import open_store
from server.app.telemetry import traces_of
from server.app.toolbox import toolbox_of
from server.app.upstreams import (
    model_of,
    show_upstreams,
    told,
    upstreams_of,
    window_note,
    with_model,
)
from server.config.limits import TurnLimits
from server.config.quantities import budget
from server.config.settings import Settings, SettingsError
from server.core.access.auth import Auth
from server.core.clock import microseconds
from server.core.completions import StoredCompletions, UpstreamObjects
from server.core.conversations import Conversations
from server.core.expiry import Expiry
from server.core.prompt.compose import CountingSettings
from server.core.turns.plan import Defaults
from server.nodes.node import Node
from server.tokens.encoding import ENCODINGS, encoding
from server.tokens.models import model
from server.transports.grpc.listener import RpcListener
from server.transports.grpc.peers import PeerService
from server.transports.http.listener import HttpListener
from server.transports.http.upgrade import WEBSOCKET
from server.transports.openai import described
from server.transports.openai.app import Facade
from server.transports.rest import app as rest
from server.transports.rest.state import RestState
from server.transports.sockets import listening_socket
from server.transports.tls import Certificate, CertificateError, certificate_of
from server.transports.websocket.listener import WebsocketListener
from server.upstream.pool import UpstreamPool
from storage.port import Store, UnavailableError
from storage.sqlite.opening import DatabaseInUseError

if TYPE_CHECKING:
    from storage.postgres.store import PostgresStore

log = structlog.get_logger("trialogue")

#: What of the grace is kept back for the last words: so much of it, and so many seconds at most.
LAST_WORDS = (0.2, 3.0)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a running server tells of itself when it begins to listen."""

    settings: Settings
    http_port: int
    grpc_port: int
    websocket_port: int
    model: str
    upstream: str
    #: a key made just now, to be shown this once
    new_key: str | None
    needs_key: bool


async def run(settings: Settings, announce: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; the second signal cuts that short.

    Raises SettingsError, one line that names the setting, where it cannot begin.
    """
    os.umask(0o077)  # what we write is nobody else's to read
    _raise_descriptor_limit()
    with Stopping() as stopping:
        async with AsyncExitStack() as stack:
            conversations, started = await _open(settings, stack)
            gc.freeze()  # what stays for good is not looked through again, least of all at the end
            with stopping.serving():
                announce(started)
                await stopping.asked.wait()
                grace = settings.drain_seconds
                log.info("draining", running=conversations.running, seconds=grace)
                await _drain(conversations, grace, stopping.hurried)
    log.info("closed")


async def _open(settings: Settings, stack: AsyncExitStack) -> tuple[Conversations, Addresses]:
    tls = _certificate(settings)
    await _load_encoding(settings, model_of(settings))
    # First in, last out: a collector that is away must not keep the database from being closed.
    traces = await stack.enter_async_context(traces_of(os.environ))
    store = await _store(settings, stack)
    upstreams = await upstreams_of(settings, stack)
    settings = await with_model(settings, upstreams)
    node, peers = await _node(settings, store, stack)
    auth, new_key = await _auth(settings, store)
    if node is not None:
        share_crowds(node, auth.owners)
    conversations = await stack.enter_async_context(
        core_of(
            store,
            upstreams,
            _defaults(settings, upstreams),
            patience=settings.storage_patience,
            traces=traces,
            shared=lambda: auth.shared,
            models=upstreams,
            live=node.live if node else None,
            toolbox=await toolbox_of(settings, stack),
        )
    )
    expiry = Expiry(conversations, settings.responses_days, microseconds)
    await stack.enter_async_context(expiry)
    show_upstreams(conversations.metrics, upstreams)
    facade = _facade(settings, store, conversations)
    ports = await _listen(settings, stack, conversations, facade, upstreams, auth, tls, peers)
    if node is not None:
        show_nodes(conversations.metrics, node)
        node.serve(conversations.recover, address_of(settings, ports[1]))
    asked = told(settings) + await window_note(settings, upstreams)
    started = Addresses(
        settings, *ports, model_of(settings), asked, new_key=new_key, needs_key=not auth.open
    )
    return conversations, started


def _facade(settings: Settings, store: Store, conversations: Conversations) -> Facade:
    return Facade(
        conversations,
        StoredCompletions(store),
        UpstreamObjects(store, microseconds, others_write=settings.on_postgres),
        default_model=model_of(settings),
        whole_bytes=settings.max_body_bytes,
    )


def _defaults(settings: Settings, upstreams: UpstreamPool) -> Defaults:
    return Defaults(
        model=model_of(settings),
        system_prompt=settings.system_prompt,
        counting=CountingSettings(settings.encoding, settings.context_window, settings.max_tokens),
        characters=shaping_of(settings, upstreams.completes_only),
        budget=budget(settings.token_budget) if settings.token_budget else None,
        limits=TurnLimits(settings.max_turns, settings.max_turns_per_key),
    )


async def _listen(
    settings: Settings,
    stack: AsyncExitStack,
    conversations: Conversations,
    facade: Facade,
    upstreams: UpstreamPool,
    auth: Auth,
    tls: Certificate | None,
    peers: PeerService | None,
) -> tuple[int, int, int]:
    """Open the ports, HTTP's last, and return them: HTTP, gRPC, websocket.

    In sequence: a port that is taken must not cancel a listener that is half begun.
    """
    with _told("http_port", settings):
        bound = stack.enter_context(listening_socket(settings.host, settings.http_port))
    rpc = RpcListener(conversations, auth, settings, tls=tls, peers=peers)
    with _told("grpc_port", settings):
        await stack.enter_async_context(rpc)
    page_port = bound.getsockname()[1]
    websocket = WebsocketListener(conversations, auth, settings, page_port=page_port, tls=tls)
    with _told("websocket_port", settings):
        await stack.enter_async_context(websocket)
    endpoint = websocket.endpoint
    mode = facade.websocket_mode(auth, endpoint.limits, endpoint.staying, page_port)
    await stack.enter_async_context(mode)
    _check_root_path(settings, facade)
    state = RestState(
        conversations, upstreams.state, grpc_port=rpc.port, others=described.description()
    )
    mounts = (*facade.mounts(), rest.mount(state))
    responses = dict.fromkeys(mode.paths, endpoint.serving(mode.receive, mode.door))
    upgrades = {WEBSOCKET: websocket.connection, **responses}
    http = HttpListener(
        mounts, conversations.requests, auth, settings, bound=bound, tls=tls, upgrades=upgrades
    )
    with _told("http_port", settings):
        await stack.enter_async_context(http)
    stack.push_async_callback(facade.close)
    return http.port, rpc.port, websocket.port


def _check_root_path(settings: Settings, facade: Facade) -> None:
    """Refuse a prefix under which nobody could tell whether a proxy has taken it off."""
    first = settings.root_path.partition("/")[2].partition("/")[0]
    if first and (rest.has(first) or any(one.has(f"/{first}") for one in facade.mounts())):
        raise SettingsError(f"TRIALOGUE_ROOT_PATH: /{first} is a path of the server's own")


def _certificate(settings: Settings) -> Certificate | None:
    try:
        return certificate_of(settings)
    except CertificateError as error:
        raise SettingsError(f"TRIALOGUE_TLS_CERT, TRIALOGUE_TLS_KEY: {error.strerror}") from error


async def _load_encoding(settings: Settings, default_model: str) -> None:
    name = settings.encoding or model(default_model).encoding
    if name not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise SettingsError(f"TRIALOGUE_ENCODING: there is no encoding {name!r}, only {known}")
    await asyncio.to_thread(encoding, name)


async def _store(settings: Settings, stack: AsyncExitStack) -> Store:
    try:
        return await open_store(settings, stack)
    except DatabaseInUseError as error:
        path = settings.database_path
        raise SettingsError(f"TRIALOGUE_DATABASE: {path} cannot be opened: {error}") from error


async def _auth(settings: Settings, store: Store) -> tuple[Auth, str | None]:
    try:
        return await auth_of(settings, _shared(settings, store))
    except UnavailableError as error:
        raise _went_away(error) from None


def _shared(settings: Settings, store: Store) -> PostgresStore | None:
    """Return the store that all servers have together; a file is one server's."""
    if not settings.on_postgres:
        return None
    from storage.postgres.store import PostgresStore

    assert isinstance(store, PostgresStore)  # noqa: S101 - as the settings say
    return store


def _went_away(error: Exception) -> SettingsError:
    return SettingsError(f"TRIALOGUE_DATABASE: it went away: {error}")


async def _node(
    settings: Settings, store: Store, stack: AsyncExitStack
) -> tuple[Node, PeerService] | tuple[None, None]:
    """Join the other servers of a database; who keeps history in a file has none."""
    if (shared := _shared(settings, store)) is None:
        return None, None
    try:
        return await node_of(settings, shared, stack, TurnLimits().waiting)
    except (UnavailableError, TimeoutError) as error:
        raise _went_away(error) from None


@contextmanager
def _told(setting: str, settings: Settings) -> Iterator[None]:
    """Turn what keeps a listener from its port into one line that names the setting."""
    try:
        yield
    except OSError as error:
        # Of a port the text has our words, of a name its number means nothing.
        port, by_name = getattr(settings, setting), isinstance(error, socket.gaierror)
        why = error.strerror if by_name else error.errno and os.strerror(error.errno)
        raise SettingsError(
            f"TRIALOGUE_{setting.upper()}: cannot listen on {settings.host} port {port}: "
            f"{why or error}. Choose another with --{setting.replace('_', '-')}; "
            "0 takes a free one"
        ) from error


async def _drain(conversations: Conversations, grace: float, hurry: asyncio.Event) -> None:
    """Let running turns end, and calls of `/v1`; `hurry` cuts it short."""
    draining = asyncio.create_task(conversations.drain(writing_time(grace)))
    hurrying = asyncio.create_task(hurry.wait())
    await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if not draining.done():
        await conversations.drain(0)
    await draining


def writing_time(grace: float) -> float:
    """Return for how many seconds of a grace turns may go on.

    What is left is for those that are interrupted, to be kept and told, and for closing the ports.
    """
    share, most = LAST_WORDS
    return grace - min(grace * share, most)


def _raise_descriptor_limit() -> None:
    """Allow as many connections as the machine lets us: the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""Makes this process one of several nodes, where history is on PostgreSQL."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from server.config.settings import Settings
from server.core.access.concurrency import ConcurrencyLimit
from server.core.observability.metrics import Metrics
from server.nodes.live import NodeLiveTurns
from server.nodes.membership import Membership
from server.nodes.mirror import Mirrors
from server.nodes.node import Node
from server.nodes.notes import Notes
from server.transports.grpc.peer_tls import known_by
from server.transports.grpc.peers import GrpcPeers, PeerService

if TYPE_CHECKING:
    from storage.postgres.store import PostgresStore


async def node_of(
    settings: Settings, store: PostgresStore, stack: AsyncExitStack, most_waiting: int
) -> tuple[Node, PeerService]:
    """Join the nodes of a database, and return what we are there, and our door for the others."""
    members, bell = store.members, store.bell
    secret = await members.secret()
    known = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        known = known_by(settings.tls_cert, settings.tls_key)
    peers = await stack.enter_async_context(GrpcPeers(secret, known))
    membership = Membership(members)
    mirrors = Mirrors(store, members, membership, peers)
    live = NodeLiveTurns(most_waiting, members, membership, mirrors, bell, Notes(store))
    node = await stack.enter_async_context(
        Node(members, membership, bell, mirrors, live, store.keys.refresh)
    )
    return node, PeerService(live, secret)


def share_crowds(node: Node, owners: ConcurrencyLimit) -> None:
    """Let a key have so many connections at all nodes together as it may have at one."""
    node.membership.crowd = owners.there
    owners.elsewhere = node.membership.elsewhere


def show_nodes(metrics: Metrics, node: Node) -> None:
    """Let the metrics show how it stands with the nodes; Prometheus' `instance` says at which."""
    membership = node.membership
    metrics.show("nodes", lambda: membership.nodes)
    metrics.show("node_holds_its_turns", lambda: float(membership.held(membership.node)))
    metrics.show("turns_mirrored", lambda: node.mirrored)


def address_of(settings: Settings, port: int) -> str:
    """Return where other nodes reach our gRPC port: as it is set, or as the database sees us."""
    if settings.node_address is not None:
        return settings.node_address
    host = settings.host
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - to compare with
        host = _way_to(urlsplit(settings.database).hostname)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _way_to(host: str | None) -> str:
    """Return our own address on the way to a host. Nothing is sent."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, 5432, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect(where)
            return str(one.getsockname()[0])
    except OSError:
        return "127.0.0.1"

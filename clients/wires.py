"""Which wire the terminal client speaks: the websocket, or what `--wire` or the address says."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from clients.websocket_client import Connection, Wire, add_access, connected, usual_url

WIRES = ("websocket", "rest", "grpc")


def add_server(arguments: argparse.ArgumentParser) -> None:
    """Add the flags that say which server, over which wire, and who asks."""
    group = arguments.add_argument_group("server")
    add = group.add_argument
    add("--url", metavar="URL", help="ws://, http:// or gRPC's HOST:PORT (this machine's)")
    add("--wire", choices=WIRES, help="what is spoken (what the URL says, or websocket)")
    add_access(group)


def settle(chosen: argparse.Namespace) -> None:
    """Choose the wire and the address where the flags leave them open."""
    if chosen.wire is None:
        scheme = (chosen.url or "ws://").rpartition("://")[0]
        chosen.wire = {"ws": "websocket", "wss": "websocket", "": "grpc"}.get(scheme, "rest")
        if scheme not in ("ws", "wss", "", "http", "https"):
            chosen.wire = "websocket"  # which says what an address is
    if chosen.url is None:
        chosen.url = _usual(chosen.wire)


def _usual(wire: str) -> str:
    match wire:
        case "rest":
            return usual_url("TRIALOGUE_HTTP_PORT", "8000", "http")
        case "grpc":
            from clients.grpc_client import usual_address

            return usual_address()
    return usual_url()


def dial(chosen: argparse.Namespace, *, known: bool = False) -> Wire:
    """Return a connection over the wire that was chosen, which opens when it is used."""
    match chosen.wire:
        case "rest":
            from clients.rest_wire import RestWire

            return RestWire(chosen, known=known)
        case "grpc":
            from clients.grpc_wire import GrpcWire

            return GrpcWire(chosen, known=known)
    return Connection(chosen, known=known)


def using(chosen: argparse.Namespace, use: Callable[[Wire], int]) -> int:
    """Return the exit code of what is done over the wire that was chosen."""
    settle(chosen)
    return connected(chosen, use, dial)

"""Every route that REST describes, by every method, with every way to send no body to speak of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import structlog

from tests.server.transports.rest.http_client import ask, connected, request, serving_anew
from tests.support.fakes import Parrot

#: DELETE is the last: until then there is something behind each route.
METHODS = ("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "POST", "DELETE")
TYPE = "Content-Type: application/json"
BODIES = {
    "none": ((), b""),
    "no length": ((TYPE, "Content-Length: 0"), b""),
    "an object": ((TYPE, "Content-Length: 2"), b"{}"),
    "no chunks": ((TYPE, "Transfer-Encoding: chunked"), b"0\r\n\r\n"),
}
#: Connections at once.
POOL = 8


def requests(paths: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield requests by what they are called; streams that go on and on are left out."""
    for method in METHODS:
        for path in paths:
            if method == "GET" and path.endswith("/events"):
                continue
            for name, (headers, body) in BODIES.items():
                data = request(method, path, body, *headers, framing=False)
                yield f"{method} {path}, body: {name}", data


async def statuses(port: int, named: Iterator[tuple[str, bytes]]) -> dict[str, int]:
    """Send each on a connection of its own, and return the statuses of the answers."""
    found = {}

    async def send() -> None:
        for name, data in named:
            async with connected(port) as wire:
                await wire.send(data)
                found[name] = int((await wire.until(b"\r\n\r\n")).split()[1])

    await asyncio.gather(*(send() for _ in range(POOL)))
    return found


async def test_none_breaks_the_server(tmp_path: Path) -> None:
    with structlog.testing.capture_logs():
        async with serving_anew(tmp_path, Parrot()) as served:
            turn = await ask(served.client, "c1")
            described = (await served.client.get("/openapi.json")).json()["paths"]
            ids = {"conversation_id": "c1", "turn_id": turn["id"], "waiting_id": "wait_1"}
            paths = [path.format_map(ids) for path in described]
            assert "/ask/c1" in paths
            found = await statuses(served.port, requests(paths))
            assert found.keys() == dict(requests(paths)).keys()
            assert {name: status for name, status in found.items() if status >= 500} == {}
            assert (await served.client.get("/healthz")).status_code == 200

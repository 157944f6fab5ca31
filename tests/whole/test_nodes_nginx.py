"""Three nodes behind nginx, as docker-compose.cluster.yml has them: one service on one port."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub

from tests.support.live import Process
from tests.support.nodes import Node
from tests.support.reverse_proxies import before_nodes
from tests.support.upstream_script import say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import Listener, checked, heard

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")


@dataclass
class Behind:
    """Where the wires are, as of a server."""

    http: str
    grpc: str
    websocket: str


async def test_every_wire_goes_through_one_port_to_any_node(
    tmp_path: Path, three: list[Node], scripted: ScriptedUpstream
) -> None:
    async with before_nodes(three, tmp_path) as (http, rpc):
        there = cast("Process", Behind(f"http://{http}", rpc, f"ws://{http}/ws"))
        wires = {name: wire(there) for name, wire in WIRES.items()}
        for name, wire in wires.items():
            gate = asyncio.Event()
            scripted.script(say("One ", gate, "more"))
            asker = Listener(wire.ask(name, "Hello"))
            await asker.until("One ")
            followers = [Listener(other.follow(asker.turn_id)) for other in wires.values()]
            await asyncio.gather(*(one.until("One ") for one in followers))
            gate.set()
            ends = [checked(await one.ends()) for one in (asker, *followers)]
            assert ends == [ends[0]] * 4
        for _ in range(9):
            for wire in wires.values():
                assert len(await wire.branch("grpc")) == 2
        async with httpx2.AsyncClient(base_url=there.http) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert "<title>" in (await client.get("/")).text
            internal = "/trialogue.internal.v1.Peer/Follow"
            assert (await client.post(internal)).status_code == 404


async def test_who_asks_hears_nothing_of_a_node_that_died(
    tmp_path: Path, three: list[Node]
) -> None:
    async with before_nodes(three, tmp_path) as (http, rpc):
        there = cast("Process", Behind(f"http://{http}", rpc, f"ws://{http}/ws"))
        three[1].kill()
        await three[1].ended()
        rest = WIRES["rest"](there)
        for number in range(12):
            end = await heard(rest, f"c{number}", "Hello?")
            assert end.turn is not None
            assert end.turn["status"] == "completed"
        async with grpc.aio.insecure_channel(rpc) as channel:
            stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
            for _ in range(6):
                found = await stub.ListConversations(pb.ListConversationsRequest())
                assert len(found.conversations) == 12

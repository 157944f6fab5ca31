"""SIGTERM while very many answers are written: how the server ends, and what every follower hears.

    python -m bench.drain                              500 streams, on all wires by turns
    python -m bench.drain --streams 60 --grace 4       a quicker look

Eliza speaks so slowly that some answers end within the grace and some do not. The server ends
within it, with 0; every follower was told how its turn ended; and after a start on
the same database every turn is what its follower was told. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import httpx2
from websockets.exceptions import WebSocketException

from tests.support.footprint import raise_descriptors
from tests.support.live import Process
from tests.support.wires import WIRES, RefusedError, Wire

#: Eliza's answers to these have some five words, and some sixty.
SHORT, LONG = "Hello", "I remember " + "one long and winding road and " * 12
LOST = (aiohttp.ClientError, grpc.aio.AioRpcError, httpx2.HTTPError, WebSocketException, OSError)


@dataclass
class Follower:
    """What one was told of its turn."""

    wire: str
    turn_id: str = ""
    text: str = ""
    ended: Any = None
    lost: str = ""

    async def follow(self, wire: Wire, conversation_id: str, prompt: str) -> None:
        try:
            async for event in wire.ask(conversation_id, prompt):
                self.turn_id = event.turn_id
                self.text += event.text
                self.ended = event.turn if event.kind == "turn.ended" else None
        except (*LOST, RefusedError) as error:
            self.lost = repr(error)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--grace", type=float, default=10, help="seconds, TRIALOGUE_DRAIN_SECONDS")
    arguments = parser.parse_args()
    raise_descriptors(8 * arguments.streams + 1_000)
    return asyncio.run(_measured(arguments.streams, arguments.grace))


async def _measured(streams: int, grace: float) -> int:
    broken: list[str] = []
    followers = [Follower(tuple(WIRES)[number % len(WIRES)]) for number in range(streams)]
    # The long answers would take four times the grace.
    delay = {"TRIALOGUE_ELIZA_DELAY": str(grace / 15), "TRIALOGUE_DRAIN_SECONDS": str(grace)}
    with tempfile.TemporaryDirectory() as folder:
        async with Process(Path(folder), env=delay) as server:
            await _drained(server, followers, grace, broken)
        async with Process(Path(folder)) as server, aiohttp.ClientSession(server.http) as session:
            for one in followers:
                broken += [f"{one.wire}: {what}" for what in await _compared(session, one)]
    print("told:", dict(Counter(one.ended["status"] for one in followers if one.ended)))
    for what, times in Counter(broken).items():
        print(f"BROKEN: {what} ({times} times)")
    if not broken:
        print("every promise was kept")
    return 1 if broken else 0


async def _drained(
    server: Process, followers: list[Follower], grace: float, broken: list[str]
) -> None:
    """Have all ask, say SIGTERM in the middle of it, and wait for the end."""
    following = [
        asyncio.create_task(
            one.follow(WIRES[one.wire](server), f"drain-{number}", (SHORT, LONG)[number % 2])
        )
        for number, one in enumerate(followers)
    ]
    while not all(one.turn_id or one.lost for one in followers):
        await asyncio.sleep(0.05)
    running = sum(not one.done() for one in following)
    began = time.monotonic()
    server.terminate()
    code = await server.ended()
    seconds = time.monotonic() - began
    await asyncio.gather(*following)
    print(f"SIGTERM under {running} of {len(followers)} streams: ended with {code}", flush=True)
    print(f"  after {seconds:.1f} s, with a grace of {grace:.0f}")
    if 2 * running < len(followers):
        broken.append(f"only {running} streams were still running: try a longer --grace")
    if code != 0:
        broken.append(f"the server ended with {code}")
    if seconds > grace:
        broken.append(f"it took {seconds - grace:.1f} s more than the grace")
    if '"level": "error"' in server.log:
        broken.append("the log has errors")


async def _compared(session: aiohttp.ClientSession, told: Follower) -> list[str]:
    """Return what is wrong about a follower's end."""
    if told.lost or told.ended is None:
        return [f"a follower was not told the end: {told.lost or 'the stream just ended'}"]
    async with session.get(f"/turns/{told.turn_id}") as answer:
        kept = await answer.json()
    broken = []
    if (kept["status"], kept["answer"]) != (told.ended["status"], told.ended["answer"]):
        broken.append("what it was told is not what was kept")
    if told.text != told.ended["answer"]:
        broken.append("its deltas are not the answer")
    return broken


if __name__ == "__main__":
    sys.exit(main())

"""Strangers who flood, drip, nest, lie and garble, on every port of a server; and who comes next.

    python -m tests.torture.hostile             all of it, three minutes: a body drips for two
    python -m tests.torture.hostile --short     as test_hostile.py does it, some seconds

Each attack names what was promised and did not happen. After them the next client is served on all
three wires, no turn runs, descriptors and memory are what they were (ROOM), and the log has no
traceback. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx2
from websockets.exceptions import WebSocketException

from tests.support.footprint import Footprint, footprint, forget_peak, raise_descriptors, settled
from tests.support.live import Process
from tests.support.wires import WIRES, RefusedError, Wire
from tests.torture.hostile_drips import Dripping
from tests.torture.hostile_frames import broken_frames, broken_paths, random_protobuf
from tests.torture.hostile_messages import (
    MIB,
    gzip_bomb,
    huge_messages,
    nested_json,
    random_messages,
)

#: Bytes that the server may take more than before: when it is over, and at the worst moment.
ROOM, ROOM_AT_WORST = 64 * MIB, 128 * MIB
#: Descriptors that may be more: connections of the pool, files of the encodings.
SPARE = 8
#: Seconds until every wire must answer again, and in which one answer must be there.
RECOVERY, ANSWER = 10.0, 20.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each attack there is; `patient` waits until drips are closed."""

    megabytes: int = 100
    drips: int = 20
    messages: int = 10_000
    frames: int = 600
    paths: int = 20
    protobuf: int = 40
    patient: bool = True


SHORT = Scale(megabytes=20, drips=3, messages=300, frames=60, paths=2, protobuf=3, patient=False)
Attack = Callable[[], Awaitable[list[str]]]
UNSERVED = (RefusedError, httpx2.HTTPError, WebSocketException, OSError, TimeoutError)


async def attacked(server: Process, scale: Scale, seed: int) -> list[str]:
    """Run every attack, then look at what is left; return the promises that were broken."""
    await _served(server)
    before = await settled(server.pid)
    broken: list[str] = []
    for name, attack in _attacks(server, scale, random.Random(seed)).items():
        forget_peak(server.pid)
        rest, began = footprint(server.pid), time.monotonic()
        broken += [f"{name}: {what}" for what in await attack()]
        broken += [f"after {name}: {what}" for what in await _served(server)]
        over = footprint(server.pid).peak - rest.memory
        print(f"{name}: {time.monotonic() - began:.1f} s, {over / MIB:.1f} MiB more", flush=True)
        if over > ROOM_AT_WORST:
            broken.append(f"{name}: took {over / MIB:.0f} MiB")
    return broken + await _left(server, before)


def _attacks(server: Process, scale: Scale, dice: random.Random) -> Mapping[str, Attack]:
    return {
        "drips": lambda: _dripped(server, scale),
        "huge messages": lambda: huge_messages(server, scale.megabytes),
        "a gzip bomb": lambda: gzip_bomb(server, scale.megabytes),
        "nested JSON": lambda: nested_json(server),
        "random websocket messages": lambda: random_messages(server, scale.messages, dice),
        "broken HTTP/2 frames": lambda: broken_frames(server, scale.frames, dice),
        "random protobuf": lambda: random_protobuf(server, scale.protobuf, dice),
        "paths that are not UTF-8": lambda: broken_paths(server, scale.paths),
    }


async def _dripped(server: Process, scale: Scale) -> list[str]:
    async with Dripping(server, scale.drips) as dripping:
        broken = await _served(server)
        return broken + (await dripping.until_closed() if scale.patient else [])


async def _served(server: Process) -> list[str]:
    """Ask on each wire, as the next client does; return the wires that do not answer."""
    return [
        f"{name} does not serve the next client: {why}"
        for name, wire in WIRES.items()
        if (why := await _refused(wire(server)))
    ]


async def _refused(wire: Wire) -> str:
    """Return why an ask is not answered, or nothing; gRPC may be building itself anew."""
    deadline = asyncio.get_running_loop().time() + RECOVERY
    while True:
        try:
            async with asyncio.timeout(ANSWER):
                kinds = [event.kind async for event in wire.ask("next", "Hello")]
            return "" if kinds[-1:] == ["turn.ended"] else f"it heard {kinds}"
        except UNSERVED as error:
            if asyncio.get_running_loop().time() > deadline:
                return repr(error)
        await asyncio.sleep(0.1)


async def _left(server: Process, before: Footprint) -> list[str]:
    """Return what the attacks left behind: descriptors, memory, turns, tracebacks."""
    broken = []
    after = await settled(server.pid, descriptors=before.descriptors + SPARE)
    print(f"before: {before}\nafter:  {after}")
    if after.descriptors > before.descriptors + SPARE:
        broken.append(f"{after.descriptors - before.descriptors} descriptors are left open")
    if after.memory > before.memory + ROOM:
        broken.append(f"{(after.memory - before.memory) / MIB:.0f} MiB are left")
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.get("/readyz?verbose") as answer,
    ):
        if running := (await answer.json())["turns_running"]:
            broken.append(f"{running} turns still run")
    return broken + [
        f"in the log: {line[:500]}"
        for line in server.log.splitlines()
        if "Traceback" in line or '"level": "error"' in line
    ]


async def _run(scale: Scale, seed: int) -> int:
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        async with Process(Path(folder)) as server:
            broken = await attacked(server, scale, seed)
    for line in broken:
        print(f"BROKEN: {line}")
    print(f"seed {seed}: {len(broken)} promises broken")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args()
    raise_descriptors(4096)
    sys.exit(asyncio.run(_run(SHORT if chosen.short else Scale(), chosen.seed)))

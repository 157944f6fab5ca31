"""Mixed traffic for a long time, an upstream that fails in every way, kills in the middle.

    python -m bench.soak                              ten minutes, no kills
    python -m bench.soak --minutes 10 --kill-every 2  the same, with SIGKILL every two minutes
    python -m bench.soak --minutes 1 --askers 6       a quicker look

Askers on all wires ask, interrupt, leave, cancel, regenerate, branch and follow what anybody asked;
the upstream answers, stalls, resets, garbles, refuses and floods by turns. After a warm-up, a fifth
of each life of the server, its memory, descriptors and threads stay (GROWTH), and its database
connections with them: each holds descriptors. Every turn that was acknowledged is read again at the
end: it is there, it has ended, and what was told of its end is what was kept. Ends with 1 where a
promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import httpx2
from websockets.exceptions import WebSocketException

from tests.support.footprint import Footprint, footprint, raise_descriptors
from tests.support.live import Process
from tests.support.upstream_script import (
    Behaviour,
    Exchange,
    comments,
    complain,
    cut,
    drip,
    echo,
    fail,
    flood,
    garbled,
    hang,
    reset,
    say,
    stall,
    truncated,
)
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, Events, RefusedError, Wire

MIB = 1 << 20
WORDS = ("the", "garden", "of", "my", "mother", "has", "a", "red", "fence", "日本", "déjà", "🐈")
#: Bytes and descriptors by which the server may have grown between the warm-up and the end.
GROWTH, MORE_DESCRIPTORS, MORE_THREADS = 24 * MIB, 12, 4
#: Seconds between two looks at the server, and those that it may have to start again.
LOOK = 1.0
LOST = (aiohttp.ClientError, grpc.aio.AioRpcError, httpx2.HTTPError, WebSocketException, OSError)
#: The upstream's patience is short here, so that what stalls is over in time.
PATIENCE = {
    "TRIALOGUE_UPSTREAM_TIMEOUT": "6",
    "TRIALOGUE_UPSTREAM_FIRST_BYTE_TIMEOUT": "2",
    "TRIALOGUE_UPSTREAM_RETRIES": "1",
    "TRIALOGUE_DRAIN_SECONDS": "10",
}


@dataclass(frozen=True, slots=True)
class SoakPlan:
    minutes: float
    askers: int
    kill_every: float | None
    seed: int


@dataclass
class Heard:
    """What was told of one turn; a cancelled or lost follower hears of no end."""

    conversation_id: str
    text: str = ""
    ended: Any = None


@dataclass
class Soak:
    """What is shared by all who ask, and outlives the server's lives."""

    plan: SoakPlan
    dice: random.Random
    told: dict[str, Heard] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--askers", type=int, default=12)
    parser.add_argument("--kill-every", type=float, metavar="MINUTES")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    plan = SoakPlan(**vars(parser.parse_args()))
    raise_descriptors(8192)
    print(f"seed {plan.seed}", flush=True)
    return asyncio.run(_soaked(Soak(plan, random.Random(plan.seed))))


async def _soaked(soak: Soak) -> int:
    plan = soak.plan
    life = 60 * (plan.kill_every or plan.minutes)
    end = time.monotonic() + 60 * plan.minutes
    with tempfile.TemporaryDirectory() as folder:
        async with ScriptedUpstream() as upstream:
            upstream.script(_weather(upstream, soak.dice))
            env = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": upstream.base_url, **PATIENCE}
            while (left := end - time.monotonic()) > 1:
                await _lived(Path(folder), env, soak, min(life, left), last=left <= life)
            async with Process(Path(folder), env=env) as server:
                await _checked(server, soak)
        soak.broken += _integrity(Path(folder) / "trialogue.db")
    print(f"{len(soak.told):,} turns acknowledged; {dict(soak.counts)}")
    print("\n".join(f"BROKEN: {one}" for one in soak.broken[:20]) or "every promise was kept")
    return 1 if soak.broken else 0


async def _lived(
    folder: Path, env: dict[str, str], soak: Soak, seconds: float, *, last: bool
) -> None:
    """Let a server live for so long among its askers; then kill it, or let it end well."""
    async with Process(folder, env=env) as server:
        askers = [
            asyncio.create_task(_asker(server, soak, number)) for number in range(soak.plan.askers)
        ]
        soak.broken += _grown(await _watched(server, seconds))
        if last:
            await _stopped(askers)
            server.terminate()
        else:
            server.kill()
        code = await server.ended()
        await _stopped(askers)
        if last and code != 0:
            soak.broken.append(f"the server ended with {code}")
        told = f"a life of {seconds:.0f} s ended with {code}"
        print(f"{told}; {len(soak.told):,} turns were acknowledged so far", flush=True)


async def _stopped(askers: list[asyncio.Task[None]]) -> None:
    for asker in askers:
        asker.cancel()
    for outcome in await asyncio.gather(*askers, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def _watched(server: Process, seconds: float) -> list[Footprint]:
    """Look at the server again and again; return what was seen after the warm-up."""
    seen: list[Footprint] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        await asyncio.sleep(LOOK)
        if time.monotonic() - began > seconds / 5:
            seen.append(footprint(server.pid))
    return seen


def _grown(seen: list[Footprint]) -> list[str]:
    """Compare the first quarter of what was seen with the last, by their medians."""
    quarter = max(1, len(seen) // 4)

    def growth(of: str) -> float:
        first, last = (
            statistics.median(getattr(one, of) for one in part)
            for part in (seen[:quarter], seen[-quarter:])
        )
        return float(last - first)

    memory, descriptors, threads = (growth(of) for of in ("memory", "descriptors", "threads"))
    print(f"  {seen[0]}\n  {seen[-1]}")
    print(
        f"  grown by {memory / MIB:.1f} MiB, {descriptors:.0f} descriptors, {threads:.0f} threads"
    )
    broken = []
    if memory > GROWTH:
        broken.append(f"memory grew by {memory / MIB:.1f} MiB")
    if descriptors > MORE_DESCRIPTORS:
        broken.append(f"{descriptors:.0f} more descriptors are open")
    if threads > MORE_THREADS:
        broken.append(f"{threads:.0f} more threads run")
    return broken


# What the upstream does


def _weather(upstream: ScriptedUpstream, dice: random.Random) -> Behaviour:
    """Return a behaviour that does something else each time; it queues itself for the next."""

    async def behave(exchange: Exchange) -> None:
        upstream.script(behave)
        upstream.requests.clear()  # who remembers all of them would be the one that grows
        await _chosen(dice)(exchange)

    return behave


def _chosen(dice: random.Random) -> Behaviour:
    """Choose a good answer, mostly, or one of the faults."""
    words = [f"{word} " for word in dice.choices(WORDS, k=dice.randrange(1, 400))]
    if dice.random() < 0.7:
        return dice.choice((echo, say(*words)))
    retry = {"retry-after": "1"}
    return dice.choice(
        (
            *(cut(*words), reset(*words), truncated(*words), stall(*words), hang()),
            *(garbled(*words), complain(*words, error={"message": "broken"})),
            *(fail(429, headers=retry), fail(500), fail(503), fail(401), fail(400)),
            *(comments("Hm "), drip(b"data: {}\n\n" * 20), flood(b": x\n\n" * 1000)),
        )
    )


# What the askers do


async def _asker(server: Process, soak: Soak, number: int) -> None:
    """Do one thing after another, on one wire after another, until it is stopped."""
    conversations = [f"soak-{number}-{place}" for place in range(3)]
    while True:
        name = soak.dice.choice(tuple(WIRES))
        wire, conversation_id = WIRES[name](server), soak.dice.choice(conversations)
        try:
            await _done(wire, soak, conversation_id)
            soak.counts[name] += 1
        except RefusedError as refused:
            soak.counts[refused.code] += 1
        except LOST:
            soak.counts["lost"] += 1
            await asyncio.sleep(0.2)


async def _done(wire: Wire, soak: Soak, conversation_id: str) -> None:
    prompt = " ".join(soak.dice.choices(WORDS, k=soak.dice.randrange(1, 60)))
    match soak.dice.randrange(10):
        case 0:
            await _heard(wire.ask(conversation_id, prompt), soak, leave_after=2)
        case 1:
            turn_id = await _heard(wire.ask(conversation_id, prompt), soak, leave_after=1)
            await wire.cancel(turn_id)
        case 2:
            await _heard(wire.regenerate(conversation_id), soak)
        case 3:
            messages = await wire.branch(conversation_id)
            await wire.move_head(conversation_id, soak.dice.choice(messages)["id"])
        case 4 if soak.told:
            await _heard(wire.follow(soak.dice.choice(tuple(soak.told))), soak)
        case _:
            await _heard(wire.ask(conversation_id, prompt, if_busy="interrupt"), soak)


async def _heard(events: Events, soak: Soak, *, leave_after: int | None = None) -> str:
    """Listen to a turn, to its end or for so many events; remember what was told."""
    turn_id, text, count = "", "", 0
    async with aclosing(events):
        async for event in events:
            turn_id, text, count = event.turn_id, text + event.text, count + 1
            told = soak.told.setdefault(turn_id, Heard(event.conversation_id))
            told.text = max(told.text, text, key=len)
            if event.kind == "turn.ended":
                told.ended = event.turn
            if count == leave_after:
                break
    return turn_id


# What is left of it


async def _checked(server: Process, soak: Soak) -> None:
    """Read every turn that was acknowledged."""
    async with aiohttp.ClientSession(server.http) as session:
        for turn_id, told in soak.told.items():
            async with session.get(f"/turns/{turn_id}") as answer:
                if answer.status != 200:
                    soak.broken.append(f"{turn_id} is lost: {answer.status}")
                    continue
                kept = await answer.json()
            soak.broken += [f"{turn_id}: {what}" for what in _wrong(told, kept)]


def _wrong(told: Heard, kept: dict[str, Any]) -> list[str]:
    broken = []
    if kept["status"] == "running":
        broken.append("still runs")
    if told.ended is not None:
        end = (told.ended["status"], told.ended["answer"])
        if end != (kept["status"], kept["answer"]):
            broken.append(f"was told as {end[0]}, is {kept['status']} or has another answer")
    elif not (kept["answer"].startswith(told.text) or told.text.startswith(kept["answer"])):
        broken.append("its text is not what was told")
    return broken


def _integrity(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        (found,) = database.execute("PRAGMA integrity_check").fetchone()
    return [] if found == "ok" else [f"integrity_check: {found}"]


if __name__ == "__main__":
    sys.exit(main())

"""Kills, pauses and restarts servers of one PostgreSQL under load, and counts what was promised.

    python -m tests.torture.nodes                    two minutes
    python -m tests.torture.nodes --seconds 600      longer
    python -m tests.torture.nodes --seed 7           the dice of an earlier run, which printed it

Three servers; clients ask on REST, each question under a key, at any server, and ask again
elsewhere until it is answered, while one server after the other is killed, sent away, or paused for
longer or shorter than it takes to be declared dead. Then every turn that a client heard to its end
is kept as it heard it, no question was asked or answered twice, none was asked of a conversation
that had gone on, and nothing runs. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.nodes import Node, node
from tests.support.postgres import fetched, running_server
from tests.support.upstream_script import Exchange, say
from tests.support.upstream_server import ScriptedUpstream

NODES, CLIENTS, CONVERSATIONS = 3, 12, 6
#: Words of an answer, and seconds for each.
WORDS, EACH = 30, 0.02
#: Seconds of a pause: shorter than a death, and longer.
PAUSES = (0.5, 8.0)
#: Characters of an answer that may have been told beyond what is kept: of the second before.
MOST_LOST = int(5 / EACH)


@dataclass
class Run:
    """What clients heard, and what was done to the servers."""

    dice: random.Random
    url: str
    nodes: list[Node]
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    over: bool = False


async def slowly(exchange: Exchange) -> None:
    """Say some words, one after the other, as a model does."""
    steps: list[str | asyncio.Event] = []
    gates = [asyncio.Event() for _ in range(WORDS)]
    for number, gate in enumerate(gates):
        steps += [f"{number} ", gate]

    async def open_all() -> None:
        for gate in gates:
            await asyncio.sleep(EACH)
            gate.set()

    opening = asyncio.create_task(open_all())
    try:
        await say(*steps)(exchange)
    finally:
        opening.cancel()


async def client(run: Run, name: int) -> None:
    """Ask one question after the other, each until it is answered."""
    number = 0
    async with aiohttp.ClientSession() as session:
        while not run.over:
            number += 1
            conversation = f"c{run.dice.randrange(CONVERSATIONS)}"
            await _answered(run, session, conversation, f"{name}-{number}")


async def _answered(run: Run, session: aiohttp.ClientSession, conversation: str, key: str) -> None:
    while True:
        at = run.dice.choice(run.nodes)
        body = {"prompt": f"Question {key}", "stream": True}
        asked = session.post(
            f"{at.http}/ask/{conversation}",
            json=body,
            headers={"idempotency-key": key},
            timeout=aiohttp.ClientTimeout(total=60, sock_read=20),
        )
        with suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with asked as answer:
                if answer.status == 200:
                    ended = await _read(run, answer)
                    if ended is not None and ended["status"] == "completed":
                        return
                elif answer.status not in (409, 429, 503):
                    run.done[f"refused with {answer.status}"] += 1
        await asyncio.sleep(0.05)


async def _read(run: Run, answer: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """Read a stream to the end of its turn; None where it breaks off."""
    turn_id, text = "", ""
    async for line in answer.content:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        turn_id = event.get("turn_id", turn_id)
        text += event.get("text", "")
        run.told[turn_id] = max(text, run.told.get(turn_id, ""), key=len)
        if event.get("type") == "turn.ended":
            ended: dict[str, Any] = event["turn"]
            run.ended[turn_id] = ended
            return ended
    return None


async def trouble(
    run: Run, folder: Path, upstream: ScriptedUpstream, stack: AsyncExitStack
) -> None:
    """Do something to a server, and let it be for a while."""
    while True:
        await asyncio.sleep(run.dice.uniform(0.5, 3))
        place = run.dice.randrange(NODES)
        what = run.dice.choice(("killed", "paused", "sent away"))
        run.done[what] += 1
        one = run.nodes[place]
        if what == "paused":
            one.pause()
            try:
                await asyncio.sleep(run.dice.uniform(*PAUSES))
            finally:
                one.go_on()
            continue
        one.kill() if what == "killed" else one.terminate()
        await one.ended()
        fresh = node(folder / f"node{place}", run.url, upstream)
        run.nodes[place] = await stack.enter_async_context(fresh)


async def checked(run: Run) -> list[str]:
    """Return every promise that was broken."""
    broken = []
    kept = {
        str(turn_id): (status, answer or "")
        for turn_id, status, answer in await fetched(
            run.url,
            "SELECT t.id, t.status, a.content "
            "FROM turns t LEFT JOIN messages a ON a.key = t.answer",
        )
    }
    for turn_id, turn in run.ended.items():
        if kept.get(turn_id) != (turn["status"], turn["answer"]):
            broken.append(f"{turn_id} was told as {turn['status']}, and is {kept.get(turn_id)}")
    for turn_id, text in run.told.items():
        status, answer = kept.get(turn_id, ("gone", ""))
        if not (str(answer).startswith(text) or text.startswith(str(answer))):
            broken.append(f"{turn_id} was told as another answer than is kept")
        if len(text) - len(str(answer)) > MOST_LOST:
            broken.append(f"{turn_id} ({status}) has lost {len(text) - len(str(answer))}")
    for said, sql in {
        "turns run": "SELECT id FROM turns WHERE status = 'running'",
        "conversations part": (
            "SELECT conversation, parent FROM messages WHERE role = 'user' "
            "GROUP BY 1, 2 HAVING count(*) > 1"
        ),
        "questions were answered twice": (
            "SELECT question FROM turns WHERE status = 'completed' GROUP BY 1 HAVING count(*) > 1"
        ),
        "questions were asked twice": (
            "SELECT content FROM messages WHERE role = 'user' GROUP BY 1 HAVING count(*) > 1"
        ),
    }.items():
        if found := await fetched(run.url, sql):
            broken.append(f"{said}: {found[:5]}")
    return broken


async def torture(url: str, seconds: float, seed: int) -> list[str]:
    """Run it all, and return every promise that was broken."""
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with ScriptedUpstream() as upstream, AsyncExitStack() as stack:
            upstream.otherwise = slowly
            made = [node(folder / f"node{n}", url, upstream) for n in range(NODES)]
            begun = [await stack.enter_async_context(one) for one in made]
            run = Run(random.Random(seed), url, begun)
            clients = [asyncio.create_task(client(run, n)) for n in range(CLIENTS)]
            troubling = asyncio.create_task(trouble(run, folder, upstream, stack))
            await asyncio.wait([troubling], timeout=seconds)
            troubling.cancel()
            run.over = True
            await asyncio.gather(troubling, return_exceptions=True)
            for place, one in enumerate(run.nodes):
                if one.gone:  # it was about to be begun anew
                    fresh = node(folder / f"node{place}", url, upstream)
                    run.nodes[place] = await stack.enter_async_context(fresh)
            await asyncio.gather(*clients)
            broken = await checked(run)
            statuses = Counter(turn["status"] for turn in run.ended.values())
    print(f"turns {dict(statuses)}, servers {dict(run.done)}, broken {len(broken)}", flush=True)
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args()
    with running_server() as server:
        broken = asyncio.run(torture(server.fresh(), asked.seconds, asked.seed))
    for one in broken:
        print(one)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

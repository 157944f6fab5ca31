"""History on PostgreSQL against a file, three nodes against one, what following elsewhere costs.

    python -m bench.nodes                three rounds, medians
    python -m bench.nodes --rounds 1     sooner

All in one run, in turn, on whatever cores there are: read the ratios. Turns are kept and streamed,
32 callers, ten turns to a conversation, as `bench.peers` has them. What a followed delta costs is
the CPU of both nodes with 50 followers of 50 turns of the other node, less that without, by token;
each token comes alone, 20 ms behind the one before.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from bench.peers.scenarios import Scenario
from bench.peers.servers import Running, upstream
from tests.support.live import Process
from tests.support.postgres import PostgresServer, running_server
from tests.support.reverse_proxies import before_nodes

KEPT: Final = Scenario("kept", 32, streamed=True, kept=True)
#: turns that are followed elsewhere, and seconds of warming up and of measuring
FOLLOWED, WARM, MEASURED = 50, 3.0, 12.0

_NAMES: Final = itertools.count()

Nodes = Sequence[Process]
#: Where files are put, the database, the upstream, and seconds of a measure.
Measure = Callable[[Path, str, str, float], Awaitable[float]]


@asynccontextmanager
async def nodes(folder: Path, database: str, asked: str, number: int = 1) -> AsyncIterator[Nodes]:
    """Run so many servers on one database."""
    env = {
        "OPENAI_API_KEY": "sk-bench",
        "OPENAI_BASE_URL": f"{asked}/v1",
        "TRIALOGUE_MODEL": "fast",
        "TRIALOGUE_DATABASE": database,
    }
    async with AsyncExitStack() as stack:
        begun = []
        for name in range(number):
            place = folder / f"node{name}"
            place.mkdir()
            begun.append(await stack.enter_async_context(Process(place, env=env)))
        yield begun


async def turns(at: str, pids: Sequence[int], seconds: float) -> float:
    """Return how many turns a second are kept at an address."""
    found = await KEPT.run(_Several(f"http://{at}", pids), "ask", seconds)
    return found["each second"]


class _Several(Running):
    """Servers behind one address."""

    def __init__(self, url: str, pids: Sequence[int]) -> None:
        super().__init__(url, pids[0], 0.0)
        self._pids = pids

    @property
    def cpu(self) -> float:
        return sum(Running(self.url, pid, 0.0).cpu for pid in self._pids)


async def on_one(folder: Path, database: str, asked: str, seconds: float) -> float:
    async with nodes(folder, database, asked) as (server,):
        return await turns(_address(server), [server.pid], seconds)


async def behind_nginx(
    number: int, folder: Path, database: str, asked: str, seconds: float
) -> float:
    """Return the turns of so many nodes behind nginx; where it is one, nginx knows it thrice."""
    async with nodes(folder, database, asked, number) as begun:
        three = [*begun] * (3 // number)
        async with before_nodes(three, folder) as (http, _):
            return await turns(http, [one.pid for one in begun], seconds)


async def followed(folder: Path, database: str, asked: str, _: float) -> float:
    """Return microseconds of both nodes' CPU by token that is followed at the other one."""
    async with nodes(folder, database, asked, 2) as (writer, other):
        both = _Several(writer.http, [writer.pid, other.pid])
        alone, _ = await _written(writer, None, both)
        cpu, tokens = await _written(writer, other, both)
        return 1e6 * (cpu - alone) / tokens


async def _written(writer: Process, at: Process | None, both: Running) -> tuple[float, int]:
    """Have long answers written, followed at another node or not; return CPU and tokens heard."""
    heard = 0

    def count(data: bytes) -> None:
        nonlocal heard
        heard += data.count(b" word")

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        reading = []
        for _ in range(FOLLOWED):
            name = next(_NAMES)
            body = {"prompt": "Go on", "model": "long", "stream": True}
            asked = await session.post(f"{writer.http}/ask/long-{name}", json=body)
            turn_id = await _turn_of(asked)
            reading.append(asyncio.create_task(_read(asked, lambda _: None)))
            if at is not None:
                found = await session.get(f"{at.http}/turns/{turn_id}/events")
                reading.append(asyncio.create_task(_read(found, count)))
        await asyncio.sleep(WARM)
        before, heard = both.cpu, 0
        await asyncio.sleep(MEASURED)
        cpu, tokens = both.cpu - before, heard
        for one in reading:
            one.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return cpu, tokens


async def _turn_of(asked: aiohttp.ClientResponse) -> str:
    async for line in asked.content:
        if line.startswith(b"data: "):
            return str(json.loads(line[6:])["turn"]["id"])
    raise RuntimeError("no turn began")


async def _read(answer: aiohttp.ClientResponse, count: Callable[[bytes], None]) -> None:
    with suppress(aiohttp.ClientError):
        async with answer:
            async for data in answer.content.iter_any():
                count(data)


def _address(server: Process) -> str:
    return server.http.partition("://")[2]


#: What is measured, in this order: on which database, and how.
_MEASURES: Final[Mapping[str, tuple[bool, Measure]]] = {
    "kept turns/s, a file": (False, on_one),
    "kept turns/s, PostgreSQL": (True, on_one),
    "kept turns/s, one node behind nginx": (True, partial(behind_nginx, 1)),
    "kept turns/s, three nodes behind nginx": (True, partial(behind_nginx, 3)),
    "CPU of a token followed elsewhere, µs": (True, followed),
}
_RATIOS: Final = {
    "PostgreSQL / a file": ("kept turns/s, PostgreSQL", "kept turns/s, a file"),
    "three nodes / one": (
        "kept turns/s, three nodes behind nginx",
        "kept turns/s, one node behind nginx",
    ),
}


async def measured(server: PostgresServer, rounds: int, seconds: float) -> Mapping[str, float]:
    """Return the medians of some rounds, and of the ratios in each."""
    found: dict[str, list[float]] = {}
    async with upstream() as asked:
        for _ in range(rounds):
            for what, (on_postgres, measure) in _MEASURES.items():
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    database = server.fresh() if on_postgres else str(folder / "trialogue.db")
                    figure = await measure(folder, database, asked, seconds)
                print(f"{what:42}{figure:8.1f}", file=sys.stderr, flush=True)
                found.setdefault(what, []).append(figure)
            for what, (one, other) in _RATIOS.items():
                found.setdefault(what, []).append(found[one][-1] / found[other][-1])
    return {what: statistics.median(figures) for what, figures in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measure of turns")
    asked = parser.parse_args()
    with running_server() as server:
        found = uvloop.run(measured(server, asked.rounds, asked.seconds))
    for what, figure in found.items():
        print(f"{what:42}{figure:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

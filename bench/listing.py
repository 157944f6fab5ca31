"""A million conversations listed: first page, last page, by title; what each costs the server.

    python -m bench.listing                            1,000,000 against 1,000 conversations
    python -m bench.listing --conversations 100000     a quicker look

Two servers in processes of their own, one with many conversations and one with few, take turns. A
page of the many may take as long as so many of the few (RATIO), or so many seconds (QUICK) on a
machine that has something else to do; and the server's memory stays. Ends with 1 where not.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import aiohttp

from server.core.access.auth import EVERYONE
from storage.sqlite.store import SQLiteStore
from tests.support.footprint import footprint
from tests.support.live import Process

SMALL = 1_000
ROUNDS = 21
RATIO = 2.0
#: Seconds; a ratio of two short times says nothing below it.
QUICK = 0.01
#: Bytes over rest that the server of the many may take.
BOUND = 64 << 20
NEEDLES = 20

#: What is asked for; the last page is that of the oldest twenty.
PAGES: Mapping[str, Mapping[str, Any]] = {
    "first page": {},
    "first page of 100": {"limit": 100},
    "last page": {"after": "c20"},
    "title, everywhere": {"q": "garden"},
    "title, everywhere, last page": {"q": "garden", "after": "c20"},
    "title, rare": {"q": "needle"},
    "title, a piece of a word": {"q": "eedl"},
    "title, two words": {"q": "needle garden"},
    "title, nowhere": {"q": "haystack"},
}

_BUILD = """
    WITH RECURSIVE place (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM place WHERE n + 1 < :count)
    INSERT INTO conversations
        (owner, id, title, metadata, truncation, created_at, updated_at)
    SELECT :owner, 'c' || n,
        iif(n % :spread = 0, 'needle', 'thread') || ' in the garden, number ' || n,
        '{}', 'trim', :now + n, :now + n
    FROM place
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conversations", type=int, default=1_000_000)
    return asyncio.run(_measured(parser.parse_args().conversations))


async def _measured(conversations: int) -> int:
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[int, Process] = {}
        for count in (SMALL, conversations):
            folder = home / str(count)
            folder.mkdir()
            began = time.monotonic()
            await build(folder / "trialogue.db", count)
            print(f"{count:,} conversations built in {time.monotonic() - began:.1f} s", flush=True)
            servers[count] = await stack.enter_async_context(Process(folder))
        many = servers[conversations]
        rest = await _rest(many)
        broken = [
            f"{name} takes {slow:.1f} times as long"
            for name, query in PAGES.items()
            if (slow := await _compared(name, servers, query)) > RATIO
        ]
        over = footprint(many.pid).peak - rest
        print(f"memory: {over / (1 << 20):.1f} MiB at most over {rest / (1 << 20):.1f} at rest")
    if over > BOUND:
        broken.append(f"{over >> 20} MiB over rest, and {BOUND >> 20} is the bound")
    print("\n".join(f"BROKEN: {one}" for one in broken) or "every promise was kept")
    return 1 if broken else 0


async def build(path: Path, conversations: int) -> None:
    """Keep so many empty conversations of everyone's; twenty of them have a needle."""
    async with SQLiteStore(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        values = {
            "count": conversations,
            "owner": EVERYONE,
            "spread": max(1, conversations // NEEDLES),
            "now": time.time_ns() // 1000 - conversations,
        }
        connection.execute(_BUILD, values)
        for index in ("title_pieces", "title_words"):
            connection.execute(
                f"INSERT INTO {index} (rowid, text) SELECT key, title FROM conversations"
            )
        connection.commit()


async def _rest(server: Process) -> int:
    """Return what a server takes that has answered once, in bytes."""
    async with aiohttp.ClientSession() as session:
        await _page(session, server, {})
    return footprint(server.pid).memory


async def _compared(name: str, servers: Mapping[int, Process], query: Mapping[str, Any]) -> float:
    """Return how many times as long a page of the many takes; 0 where both are quick."""
    taken: dict[int, list[float]] = {count: [] for count in servers}
    sizes: dict[int, int] = {}
    async with aiohttp.ClientSession() as session:
        for _ in range(ROUNDS):
            for count, server in servers.items():
                began = time.perf_counter()
                sizes[count] = await _page(session, server, query)
                taken[count].append(time.perf_counter() - began)
    few, many = (statistics.median(times) for times in taken.values())
    worst = max(list(taken.values())[-1])
    told = f"{name}: {1000 * many:.1f} ms, worst {1000 * worst:.1f} ms; of {SMALL:,}: "
    print(f"{told}{1000 * few:.1f} ms; {sizes[max(sizes)]} rows", flush=True)
    return many / few if many > QUICK else 0.0


async def _page(session: aiohttp.ClientSession, server: Process, query: Mapping[str, Any]) -> int:
    async with session.get(f"{server.http}/conversations", params=query) as answer:
        assert answer.status == 200, await answer.text()
        return len((await answer.json())["data"])


if __name__ == "__main__":
    sys.exit(main())

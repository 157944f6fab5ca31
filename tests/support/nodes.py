"""Several servers on one database of PostgreSQL, each a process with a folder of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.live import Fork
from tests.support.upstream_server import ScriptedUpstream


class Node(Fork):
    """One of the servers; it can be stopped as a process is that is paused, and go on."""

    @property
    def gone(self) -> bool:
        return self._process.returncode is not None

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def node(folder: Path, url: str, upstream: ScriptedUpstream, **env: str) -> Node:
    """Return a server that is not begun yet."""
    folder.mkdir(exist_ok=True)
    settings = {
        "TRIALOGUE_DATABASE": url,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": upstream.base_url,
        "TRIALOGUE_MODEL": "gpt-4o-mini",
        "TRIALOGUE_DRAIN_SECONDS": "5",
    }
    return Node(folder, env=settings | env)


@asynccontextmanager
async def nodes(
    folder: Path, url: str, upstream: ScriptedUpstream, number: int = 3, /, **env: str
) -> AsyncIterator[list[Node]]:
    """Run so many servers on one database, all asking one upstream."""
    made = [node(folder / f"node{n}", url, upstream, **env) for n in range(number)]
    async with AsyncExitStack() as stack:
        yield await asyncio.gather(*(stack.enter_async_context(one) for one in made))

"""The commands of the terminal client as people run them: in a pipe, or in a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.clients.programs import CHECKOUT
from tests.support.live import Served


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "proto", "PYTHONUNBUFFERED": "1", "TERM": "dumb", **more}


async def command(
    word: str, *arguments: str, at: str, text: bytes | None = None, key: str = ""
) -> tuple[int | None, str, str]:
    """Run a command of `trialogue` to its end: exit code, output, notices; `text` is piped in."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", word, "--url", at, *arguments),
        cwd=CHECKOUT,
        env=environment(TRIALOGUE_API_KEY=key),
        stdin=DEVNULL if text is None else PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    output, notices = await process.communicate(text)
    return process.returncode, output.decode(), notices.decode()


class Terminal:
    """A command that thinks a person is there."""

    def __init__(self, process: Process, screen: int) -> None:
        self._process = process
        self._screen = screen
        self._unread = ""

    def type(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    async def read(self, expected: str) -> str:
        """Wait until the screen shows this, and return what came up to it."""
        while expected not in self._unread:
            piece = await asyncio.to_thread(os.read, self._screen, 4096)
            self._unread += piece.decode(errors="replace").replace("\r\n", "\n")
        seen, found, self._unread = self._unread.partition(expected)
        return seen + found

    async def code(self) -> int:
        return await self._process.wait()


@asynccontextmanager
async def terminal(word: str, *arguments: str, served: Served) -> AsyncIterator[Terminal]:
    """Run a command in a pseudo-terminal; it is killed if the test leaves it alive."""
    screen, inside = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", word, "--url", served.websocket, *arguments),
        cwd=CHECKOUT,
        env=environment(),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    try:
        yield Terminal(process, screen)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(screen)

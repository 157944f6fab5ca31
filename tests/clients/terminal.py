"""The commands of the terminal client as people run them: in a pipe, or in a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
import termios
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.clients.programs import CHECKOUT
from tests.support.live import Served

#: What steers a terminal, whole, and as it may stand at the end of what was read so far.
ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][A-Z0-9]?)")
BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07]*|[=>()])?\Z")


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
        self._held = ""

    def type(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    async def press(self, keys: str) -> None:
        """Type these characters, and nothing behind them."""
        await asyncio.to_thread(os.write, self._screen, keys.encode())

    async def paste(self, text: str) -> None:
        """Paste a text, as terminals do it that say so."""
        await self.press(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, lines: int = 30) -> None:
        termios.tcsetwinsize(self._screen, (lines, columns))
        self._process.send_signal(signal.SIGWINCH)

    def interrupt(self) -> None:
        """Send the signal that Ctrl-C is where it is no key."""
        self._process.send_signal(signal.SIGINT)

    async def read(self, expected: str) -> str:
        """Wait until the screen shows this, and return what came up to it."""
        while expected not in self._unread:
            piece = await asyncio.to_thread(os.read, self._screen, 4096)
            unread = self._held + piece.decode(errors="replace")
            begun = BEGUN.search(unread)
            end = begun.start() if begun else len(unread)
            self._held = unread[end:]
            self._unread += ESCAPE.sub("", unread[:end]).replace("\r\n", "\n")
        seen, found, self._unread = self._unread.partition(expected)
        return seen + found

    async def code(self) -> int:
        return await self._process.wait()


@asynccontextmanager
async def terminal(
    word: str, *arguments: str, served: Served | str, **env: str
) -> AsyncIterator[Terminal]:
    """Run a command in a pseudo-terminal; it is killed if the test leaves it alive."""
    screen, inside = pty.openpty()
    termios.tcsetwinsize(screen, (30, 80))
    at = served if isinstance(served, str) else served.websocket
    process = await asyncio.create_subprocess_exec(
        # Its own terminal: keys that are no keys just then are signals, as a person's are.
        *("setsid", "--ctty", sys.executable, "-m", "server", word, "--url", at, *arguments),
        cwd=CHECKOUT,
        env=environment(**env),
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    try:
        yield Terminal(process, screen)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(screen)


def able(state: Path) -> dict[str, str]:
    """Return the environment of a terminal that can do all, though it tells no cursor positions."""
    return {
        "TERM": "xterm-256color",
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "XDG_STATE_HOME": str(state),
    }

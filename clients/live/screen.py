"""The terminal of a live chat: a prompt that stays, and everything else above it."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import in_terminal
from prompt_toolkit.completion import Completer, ThreadedCompleter
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText, merge_formatted_text
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

MARK = "you> "
#: Lines that are left for the prompt below an answer that is being written.
PROMPT_LINES = 6
#: Between two drawings, in seconds: a faster model is not drawn more often.
REDRAW_SECONDS = 0.05


def history() -> History:
    """Return what was typed in earlier runs, and where it is kept: for nobody else to read."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "trialogue" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


class Above(io.TextIOBase):
    """In place of standard output: whole lines, from whichever thread, are handed on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._line = ""

    def write(self, text: str) -> int:
        whole, end, self._line = (self._line + text).rpartition("\n")
        if end:
            self._tell(whole + end)
        return len(text)


class Screen:
    """Shows a prompt, what is being written right above it, and what is done above that."""

    def __init__(
        self, completer: Completer, interrupt: Callable[[], bool], tail: Callable[[int], str]
    ) -> None:
        """`interrupt` is called by Ctrl-C, and says whether to leave.

        `tail` draws what is being written, in so many columns.
        """
        self._out = sys.stdout
        self._interrupt = interrupt
        self._tail = tail
        self.default = ""
        self._session: PromptSession[str] = PromptSession(
            self._message,
            multiline=True,
            prompt_continuation=" " * len(MARK),
            key_bindings=self._keys(),
            completer=ThreadedCompleter(completer),
            complete_while_typing=False,
            history=history(),
            erase_when_done=True,
        )
        self._session.app.min_redraw_interval = REDRAW_SECONDS

    @property
    def width(self) -> int:
        return self._size.columns

    @property
    def _size(self) -> os.terminal_size:
        """The terminal's own, now: COLUMNS may be what it was when somebody exported it."""
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((0, 0))
        return size if size.columns and size.lines else shutil.get_terminal_size()

    @property
    def typed(self) -> str:
        return self._session.default_buffer.text

    def clear(self) -> None:
        """Take back what is typed."""
        self._session.default_buffer.reset()

    async def question(self) -> str | None:
        """Return what is typed next; None where somebody leaves."""
        default, self.default = self.default, ""
        try:
            return await self._session.prompt_async(default=default)
        except EOFError:
            return None

    async def show(self, above: str) -> None:
        """Put something above the prompt for good, and draw what is being written anew."""
        if not above:
            self._session.app.invalidate()
            return
        async with in_terminal():
            self._out.write(above)
            self._out.flush()

    def _message(self) -> AnyFormattedText:
        size = self._size
        lines = self._tail(size.columns).splitlines()
        shown = lines[-max(1, size.lines - PROMPT_LINES) :]
        return merge_formatted_text([ANSI("".join(f"{line}\n" for line in shown)), MARK])

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def send(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def another_line(event: KeyPressEvent) -> None:
            event.current_buffer.newline()

        @keys.add("c-c")
        @keys.add("<sigint>")  # the same, while something is shown above the prompt
        def interrupt(event: KeyPressEvent) -> None:
            if self._interrupt():
                event.app.exit(exception=EOFError)

        return keys


def into(queue: asyncio.Queue[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """Return what puts into a queue from any thread, for as long as its loop runs."""
    loop = asyncio.get_running_loop()

    def put(event: dict[str, Any]) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, event)
        except RuntimeError:
            return  # somebody has left

    return put

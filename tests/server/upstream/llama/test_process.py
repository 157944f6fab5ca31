"""One child, as far as a shell can play it: what it prints, and how long it is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.upstream.llama.process import Child, ChildError

LISTENS = """echo '{"address": "http://127.0.0.1:1", "pid": 7}'"""


@asynccontextmanager
async def child(script: str) -> AsyncIterator[Child]:
    begun = await Child.begin(["sh", "-c", script], "m", "/f")
    try:
        yield begun
    finally:
        await begun.close()


@pytest.mark.parametrize(
    "noise",
    [
        "echo hello",
        "echo 5",
        "echo '{}'",
        """echo '{"address": "http://elsewhere:1", "pid": 7}'""",
        "head -c 200000 /dev/zero | tr '\\0' x; echo",
    ],
)
async def test_what_else_is_printed_is_passed_over(noise: str) -> None:
    async with child(f"{noise}; {LISTENS}; exit 1") as noisy:
        with pytest.raises(ChildError, match="it ended with 1"):
            await noisy.ready()
        assert noisy.pid == 7


@pytest.mark.parametrize("script", ["exec sleep 600", f"{LISTENS}; exec sleep 600"])
async def test_one_that_never_is_ready_is_given_up(script: str) -> None:
    async with child(script) as slow:
        with pytest.raises(ChildError, match="not loaded within 0 seconds") as given_up:
            await slow.ready(patience=0.3)
        assert not given_up.value.again


async def test_one_that_ends_says_why() -> None:
    async with child("echo 'error: no such model' >&2; exit 3") as broken:
        with pytest.raises(ChildError, match="it ended with 3: error: no such model") as refused:
            await broken.ready()
        assert not refused.value.again

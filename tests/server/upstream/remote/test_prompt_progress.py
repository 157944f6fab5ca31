"""How far a prompt is read, of an upstream that tells it, or lies about it."""

from __future__ import annotations

from typing import Any

import pytest

from server.upstream.port import Finish, Piece, PromptProgress
from storage.model import Usage
from tests.server.upstream.remote.turn_helpers import PROMPT, scripted
from tests.support.upstream_script import Behaviour, Step, event, say


def reads(read: Any, total: Any, said: str | None = None) -> bytes:
    delta = {"role": "assistant", "content": said}
    progress = {"total": total, "cache": 0, "processed": read, "time_ms": 1}
    return event({"choices": [{"index": 0, "delta": delta}], "prompt_progress": progress})


async def pieces(*behaviours: Behaviour) -> list[Piece]:
    async with scripted(*behaviours) as (_, client):
        return [piece async for piece in client.complete(PROMPT)]


END = Finish("stop", Usage(11, 7))


async def test_each_percent_is_told_once() -> None:
    steps: list[Step] = [reads(read, 1000) for read in (0, 5, 10, 10, 500, 499, 1000, 1000)]
    told = [PromptProgress(read, 1000) for read in (0, 10, 500, 1000)]
    assert await pieces(say(*steps, "Hi")) == [*told, "Hi", END]


async def test_however_often_an_upstream_tells_it_a_hundred_are_heard() -> None:
    flood = b"".join(reads(n % 1000, 1000 + n % 7) for n in range(20_000))
    told = await pieces(say(flood, "Hi"))
    assert len(told) <= 101 + 2
    assert told[-2:] == ["Hi", END]


async def test_words_beside_it_are_words_of_the_answer() -> None:
    first, *words, end = await pieces(say(reads(1, 2, "He"), reads(2, 2, "llo"), reads(1, 2)))
    assert (first, end) == (PromptProgress(1, 2), END)
    assert "".join(map(str, words)) == "Hello"


@pytest.mark.parametrize("lie", [-1, 1e308, "1", None, True, [1], 1 << 40, {"total": 1}])
async def test_what_cannot_be_is_passed_over(lie: Any) -> None:
    steps = (reads(lie, 2), reads(1, lie), reads(lie, lie))
    assert await pieces(say(*steps, "Hi")) == ["Hi", END]


async def test_each_try_is_told_from_its_beginning() -> None:
    async def broken(exchange: Any) -> None:
        await say(reads(1, 2), event({"error": {"message": "overloaded", "code": 503}}))(exchange)

    told = await pieces(broken, say(reads(1, 2), "Hi"))
    assert told == [PromptProgress(1, 2), PromptProgress(1, 2), "Hi", END]

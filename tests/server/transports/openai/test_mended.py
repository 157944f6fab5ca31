"""What upstreams get wrong reaches OpenAI's own client right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server.transports.openai.openai_client import MESSAGES, Pair, passing
from tests.support.upstream_script import MODEL, event, reset, say


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with passing(tmp_path, bounds={"linger": 0.01}) as found:
        yield found


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


async def test_calls_of_tools_that_have_no_numbers(pair: Pair) -> None:
    served, upstream = pair
    calls = [
        {"id": id_, "type": "function", "function": {"name": id_, "arguments": "{}"}}
        for id_ in ("a", "b")
    ]
    pieces = [chunk({"role": "assistant", "tool_calls": [call]}) for call in calls]
    upstream.script(say(*pieces, finish="tool_calls"))
    async with served.openai.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:  # type: ignore[arg-type]
        (choice,) = (await stream.get_final_completion()).choices
    assert choice.finish_reason == "tool_calls"
    assert [call.id for call in choice.message.tool_calls or ()] == ["a", "b"]


async def test_a_second_choice_that_comes_late(pair: Pair) -> None:
    served, upstream = pair
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, late.set)
    second = chunk({"content": "B"}, "stop", 1)
    upstream.script(say("A", chunk({}, "stop"), late, second, finish=None))
    async with served.openai.chat.completions.stream(
        model=MODEL,
        messages=MESSAGES,  # type: ignore[arg-type]
        n=2,
    ) as stream:
        choices = (await stream.get_final_completion()).choices
    assert [choice.message.content for choice in choices] == ["A", "B"]


async def test_a_second_choice_that_never_comes(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(reset("A", chunk({}, "stop")))
    with pytest.raises(openai.APIError, match="cut off"):
        async with served.openai.chat.completions.stream(
            model=MODEL,
            messages=MESSAGES,  # type: ignore[arg-type]
            n=2,
        ) as stream:
            await stream.until_done()

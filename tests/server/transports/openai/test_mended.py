"""What upstreams get wrong reaches OpenAI's own client right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server.transports.openai.completions.chat_only import CHAT_ONLY
from tests.server.transports.openai.openai_client import MESSAGES, Pair, events_of, passing
from tests.support.upstream_script import MODEL, document, event, reset, say


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


class TestFewerChoicesThanWereAskedFor:
    """What came is told, numbered without a hole."""

    async def test_in_one_piece(self, pair: Pair) -> None:
        served, upstream = pair
        for given in ([0], [0, 0], [0, 2], [1, 0]):
            choices = [
                {"index": one, "message": {"role": "assistant", "content": str(place)}}
                for place, one in enumerate(given)
            ]
            upstream.script(document({"choices": choices}))
            made = await served.openai.chat.completions.create(
                model=MODEL,
                messages=MESSAGES,  # type: ignore[arg-type]
                n=3,
            )
            assert sorted(one.index for one in made.choices) == list(range(len(given)))
            if given == [1, 0]:
                assert [one.index for one in made.choices] == given

    async def test_in_a_stream(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("A"))
        async with served.openai.chat.completions.stream(
            model=MODEL,
            messages=MESSAGES,  # type: ignore[arg-type]
            n=2,
        ) as stream:
            (choice,) = (await stream.get_final_completion()).choices
        assert (choice.index, choice.message.content) == (0, "A")

    @pytest.mark.parametrize("stream", [True, False])
    async def test_in_completions_that_are_made_of_chats(self, pair: Pair, stream: bool) -> None:
        served, upstream = pair
        upstream.script(CHAT_ONLY, say("A"), say("B"), say("C"))
        body = {"model": MODEL, "prompt": ["a", "b", "c"], "n": 2, "stream": stream}
        answer = await served.client.post("/v1/completions", json=body)
        chunks = events_of(answer.content)[:-1] if stream else [answer.json()]
        told = [(one["index"], one["text"]) for chunk in chunks for one in chunk["choices"]]
        places = list(dict.fromkeys(index for index, _ in told))
        assert places == [0, 1, 2]
        assert sorted(text for _, text in told if text) == ["A", "B", "C"]

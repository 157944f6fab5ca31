"""Usage that no upstream told, counted as the built-in one counts its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.openai_protocol.usage import UsageCounter
from server.tokens.request import prompt_tokens, text_tokens
from tests.server.upstream.remote.relay_helpers import CHAT
from tests.support.upstream_script import MODEL

MESSAGES = [{"role": "user", "content": "How many words are there?"}]
TOOL = {"name": "sum", "description": "Add.", "parameters": {"properties": {"a": {"type": "x"}}}}


def usage(counter: UsageCounter, path: str = CHAT, **asked: Any) -> dict[str, int]:
    return counter.usage(path, MODEL, json.dumps(asked).encode())


async def test_a_chat_with_tools_is_counted() -> None:
    counter = UsageCounter()
    counter.add(0, {"content": "Hello there", "refusal": None})
    tools = [{"type": "function", "function": TOOL}]
    found = usage(counter, messages=MESSAGES, tools=tools)
    prompt, said = prompt_tokens(MODEL, MESSAGES, [TOOL]), text_tokens(MODEL, "Hello there")
    assert found == {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }


async def test_pieces_count_as_the_whole_that_they_are() -> None:
    whole, pieces = UsageCounter(), UsageCounter()
    arguments = '{"city": "Reykjavik"}'
    call = {"id": "call_1", "type": "function", "function": {"name": "w", "arguments": arguments}}
    whole.add(0, {"content": "unbelievable", "tool_calls": [call]})
    whole.add(1, {"content": "2", "reasoning_content": "thought", "reasoning": "thought"})
    for piece in ("un", "believ", "able"):
        pieces.add(0, {"content": piece})
    pieces.add(1, {"content": "2", "reasoning": "thought"})
    pieces.add(0, {"tool_calls": [{"index": 0, "function": {"name": "w", "arguments": ""}}]})
    for letter in arguments:
        pieces.add(0, {"tool_calls": [{"index": 0, "function": {"arguments": letter}}]})
    assert usage(pieces, messages=MESSAGES) == usage(whole, messages=MESSAGES)
    said = ("unbelievable", "w", arguments, "2", "thought")
    expected = sum(text_tokens(MODEL, text) for text in said)
    assert (usage(whole))["completion_tokens"] == expected


@pytest.mark.parametrize(
    ("calls", "tokens"),
    [
        *((none, 0) for none in (True, 1, {"a": 1}, [True], [{"function": 1}])),
        ([{"index": [], "function": {"name": "hello"}}], 1),
    ],
)
async def test_calls_that_are_none_count_nothing(calls: object, tokens: int) -> None:
    counter = UsageCounter()
    counter.add(0, {"text": "hello", "tool_calls": calls})
    assert usage(counter, "/completions")["completion_tokens"] == 1 + tokens


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("hello hello", 2), (["hello", "hello"], 2), ([1, 2, 3], 3), ([[1, 2], [3]], 3), (None, 0)],
)
async def test_prompts_of_text_are_counted(prompt: object, tokens: int) -> None:
    counter = UsageCounter()
    counter.add(0, {"text": "hello"})
    found = usage(counter, "/completions", prompt=prompt)
    assert found == {
        "prompt_tokens": tokens,
        "completion_tokens": 1,
        "total_tokens": tokens + 1,
    }


async def test_odd_shapes_are_left_out_not_stumbled_over() -> None:
    odd: dict[str, Any] = {
        "role": "assistant",
        "content": ["x", {"type": "text", "text": "hello"}],
        "name": 5,
        "tool_calls": ["x", {"function": {"name": "f"}}],
        "function_call": "x",
    }
    counter = UsageCounter()
    counter.add(0, {"content": 5, "tool_calls": [{"function": "x"}], "function_call": "x"})
    found = usage(counter, messages=[odd, "x"], tools=["x", {"function": 1}], functions=5)
    assert found["prompt_tokens"] > 0
    assert found["completion_tokens"] == 0

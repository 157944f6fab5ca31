"""A stream put together again as the answer that it would have been."""

from __future__ import annotations

import json
from typing import Any

from server.openai_protocol.assemble import Assembler

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def assembled(*deltas: dict[str, Any], of_choice: dict[str, Any] | None = None) -> Assembler:
    """Hear a stream of these deltas, then of its end."""
    whole = Assembler()
    for delta in (*deltas, {}):
        ended = None if delta else "stop"
        choice = {"index": 0, "delta": delta, "finish_reason": ended, **(of_choice or {})}
        hear(whole, choices=[choice])
    return whole


def hear(whole: Assembler, **chunk: Any) -> None:
    whole.take(b"data: %b\n\n" % json.dumps({**HEAD, **chunk}).encode())


def test_fields_that_nobody_knows_are_there_too() -> None:
    whole = assembled({"content": "Hi"}, of_choice={"x_choice": 1, "stop_reason": None})
    hear(whole, choices=[], citations=["a"], service_tier="flex", obfuscation="xyz", usage={"n": 1})
    hear(whole, choices=[], citations=[], service_tier=None)
    assert whole.completion() == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "citations": ["a"],
        "service_tier": "flex",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
                "x_choice": 1,
                "stop_reason": None,
            }
        ],
        "usage": {"n": 1},
    }


def test_texts_are_joined_and_labels_stay_one() -> None:
    label = {"type": "reasoning.text", "index": 0, "format": "anthropic-v1", "id": "r1"}
    message = assembled(
        {"role": "assistant", "reasoning_details": [{**label, "text": "a"}], "reasoning": "a"},
        {"role": "assistant", "reasoning_details": [{**label, "text": "b"}], "reasoning": "b"},
        {"content": "4", "phase": "final"},
        {"content": "2", "phase": "final"},
        {"audio": {"id": "audio_1", "data": "AA", "transcript": "forty "}},
        {"audio": {"id": "audio_1", "data": "BB", "transcript": "two", "expires_at": 5}},
    ).message
    assert message == {
        "role": "assistant",
        "content": "42",
        "refusal": None,
        "phase": "final",
        "reasoning": "ab",
        "reasoning_details": [{**label, "text": "ab"}],
        "audio": {"id": "audio_1", "data": "AABB", "transcript": "forty two", "expires_at": 5},
    }


def test_a_call_of_a_tool_comes_in_pieces() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}
    again = {"index": 0, "id": "", "function": {"name": "", "arguments": '{"a":'}}
    last = {"index": 0, "function": {"arguments": " 1}"}}
    message = assembled(*({"tool_calls": [one]} for one in (first, again, last))).message
    function = {"name": "f", "arguments": '{"a": 1}'}
    assert message["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]


def test_an_error_that_is_none_is_no_end() -> None:
    whole = Assembler()
    hear(whole, choices=[], error={})
    assert whole.error is None
    hear(whole, error={"message": "Broken"})
    assert whole.error == {"message": "Broken"}

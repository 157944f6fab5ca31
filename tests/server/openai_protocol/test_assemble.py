"""A stream put together again as the answer that it would have been."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import pytest

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


def test_adding_a_piece_costs_what_it_brings_however_much_is_there() -> None:
    """Counted, not timed: the calls of Python's for the last pieces are those for the first."""
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    call = {"index": 0, "function": {"arguments": "a"}}
    delta = {"content": "a", "tool_calls": [call]}
    whole = Assembler()

    def counted() -> int:
        calls = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        gc.disable()  # what others have it call is no part of this
        sys.setprofile(count)
        hear(whole, choices=[{"index": 0, "delta": delta, "logprobs": {"content": [token] * 20}}])
        sys.setprofile(None)
        gc.enable()
        return calls

    first = min(counted() for _ in range(5))
    for _ in range(2_000):
        counted()
    assert min(counted() for _ in range(5)) == first
    (choice,) = whole.completion()["choices"]
    assert choice["message"]["content"] == "a" * 2_010
    assert choice["message"]["tool_calls"] == [{"function": {"arguments": "a" * 2_010}}]
    assert len(choice["logprobs"]["content"]) == 20 * 2_010


@pytest.mark.parametrize("index", [None, 0.5, [], {}, "a"])
def test_items_of_odd_numbers_are_kept(index: object) -> None:
    said = [{"index": index, "text": "a"}, "b", 7, None]
    (choice,) = assembled({"annotations": said}, {"annotations": said}).completion()["choices"]
    kept = choice["message"]["annotations"]
    assert kept == (
        [{"index": "a", "text": "aa"}, *said[1:], *said[1:]] if index == "a" else said * 2
    )

"""Events of a response: their order, and their numbers, which are the same for every reader."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from server.live.turn import Delta, TurnEvent, replay
from server.transports.openai.responses.events import AnswerEvents
from storage.model import Content, Failure, Status, Turn, Usage
from tests.storage.nouns import turn

PARTS: Content = [
    {"type": "reasoning", "text": "Let me see."},
    {"type": "text", "text": "Looking it up."},
    {"type": "function", "id": "call_a", "function": {"name": "look", "arguments": '{"at": 1}'}},
    {"type": "custom", "id": "call_b", "custom": {"name": "run", "input": "ls -l"}},
    {"type": "refusal", "refusal": "No."},
]
#: The numbers of an answer of many parts: never changed for what is stored.
GOLDEN = [
    *("created", "in_progress"),
    *("output_item.added", "content_part.added"),
    *("reasoning_text.delta:Let", "reasoning_text.delta: me", "reasoning_text.delta: see."),
    *("reasoning_text.done", "content_part.done", "output_item.done"),
    *("output_item.added", "content_part.added"),
    *("output_text.delta:Looking", "output_text.delta: it", "output_text.delta: up."),
    *("output_text.done", "content_part.done", "output_item.done"),
    *("output_item.added", 'function_call_arguments.delta:{"at":'),
    *("function_call_arguments.delta: 1}", "function_call_arguments.done", "output_item.done"),
    *("output_item.added", "custom_tool_call_input.delta:ls", "custom_tool_call_input.delta: -l"),
    *("custom_tool_call_input.done", "output_item.done"),
    *("output_item.added", "content_part.added", "refusal.delta:No.", "refusal.done"),
    *("content_part.done", "output_item.done", "completed"),
]


def ended(content: Content, status: Status = Status.COMPLETED, **fields: Any) -> Turn:
    done = {"ended_at": 9, "usage": Usage(1, 2), "answer_id": "msg_1", **fields}
    return replace(turn("1"), status=status, **done).saying(content)


async def events_of(of: Turn, after: int = -1, size: int | None = None) -> list[dict[str, Any]]:
    """Return what a reader is told; with a size, of deltas of so many characters."""
    told = []
    async for one in AnswerEvents(of, after).each(_cut(replay(of), size)):
        told.append(json.loads(one.data))
        assert one.kind == told[-1]["type"]
    return told


async def _cut(events: AsyncIterator[TurnEvent], size: int | None) -> AsyncIterator[TurnEvent]:
    async for event in events:
        if size is None or not isinstance(event, Delta) or not (event.text or event.delta):
            yield event
            continue
        said = event.text + event.delta
        for at in range(0, len(said), size):
            piece = said[at : at + size]
            yield replace(event, **({"text": piece} if event.text else {"delta": piece}))


def short(event: dict[str, Any]) -> str:
    name = event["type"].removeprefix("response.")
    return f"{name}:{event['delta']}" if "delta" in event else name


async def test_the_numbers_of_an_answer_of_many_parts() -> None:
    told = await events_of(ended(PARTS))
    assert [short(one) for one in told] == GOLDEN
    assert [one["sequence_number"] for one in told] == list(range(len(GOLDEN)))


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("content", [PARTS, "Hello, 日本 and all " * 9, ""])
async def test_they_are_the_same_however_it_came(content: Content, size: int) -> None:
    assert await events_of(ended(content), size=size) == await events_of(ended(content))


async def test_whoever_resumes_hears_the_rest() -> None:
    of = ended(PARTS)
    whole = await events_of(of)
    for after in range(-1, len(whole)):
        assert await events_of(of, after) == whole[after + 1 :]
    assert await events_of(of, len(whole) + 9) == []


async def test_items_are_added_as_they_are_done() -> None:
    told = await events_of(ended(PARTS))
    added = [one["item"] for one in told if one["type"].endswith("item.added")]
    done = [one["item"] for one in told if one["type"].endswith("item.done")]
    assert [one["id"] for one in added] == ["rs_1", "msg_1_1", "fc_1_2", "ctc_1_3", "msg_1_4"]
    assert [one["id"] for one in done] == [one["id"] for one in added]
    assert [one.get("call_id") for one in added] == [one.get("call_id") for one in done]
    assert {one["status"] for one in added} == {"in_progress"}
    assert {one["status"] for one in done} == {"completed"}
    assert told[-1]["response"]["output"] == done
    # Open Responses has no null here: it is a text, or it is not there.
    assert done[0].keys() == {"type", "id", "status", "summary", "content"}


@pytest.mark.parametrize(
    ("of", "kind", "status"),
    [
        (ended("Hi", finish_reason="length"), "incomplete", "incomplete"),
        (ended("Hi", Status.CANCELLED), "incomplete", "cancelled"),
        (ended("Hi", Status.FAILED, error=Failure("upstream_failed", "x")), "failed", "failed"),
        (ended("Hi", Status.INTERRUPTED), "failed", "failed"),
    ],
)
async def test_every_answer_has_one_end(of: Turn, kind: str, status: str) -> None:
    told = await events_of(of)
    assert short(told[-1]) == kind
    response = told[-1]["response"]
    assert response["status"] == status
    assert response["output"][0]["status"] == told[-2]["item"]["status"] == "incomplete"
    assert (response["error"] is not None) == (status == "failed")
    reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
    assert response["incomplete_details"] == reason


async def test_one_who_saw_more_than_a_crash_left_hears_the_end_alone() -> None:
    left = ended("Hello", Status.INTERRUPTED)
    told = await events_of(left, after=40)
    assert [(short(one), one["sequence_number"]) for one in told] == [("failed", 41)]
    assert await events_of(ended("Hello"), after=40) == []


async def test_answers_of_older_releases_keep_their_ids() -> None:
    told = await events_of(ended("Hi", answer_id="msg_old"))
    named = {one["item_id"] for one in told if "item_id" in one}
    assert named == {"msg_old"} == {told[-1]["response"]["output"][0]["id"]}

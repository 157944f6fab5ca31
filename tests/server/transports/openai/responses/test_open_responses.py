"""What the acceptance tests of Open Responses look at, and OpenAI's own models."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai.types.conversations import Conversation
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.server.transports.openai.responses.stateful import (
    CONVERSATIONS,
    RESPONSES,
    asked,
    error_of,
    events_in,
    streamed,
)
from tests.support.live import Fork

#: The keys that every response has there, and those that OpenAI's description asks for besides.
REQUIRED = {
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model"),
    *("previous_response_id", "instructions", "output", "error", "tools", "tool_choice"),
    *("truncation", "parallel_tool_calls", "text", "top_p", "presence_penalty"),
    *("frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage"),
    *("max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata"),
    *("safety_identifier", "prompt_cache_key"),
}
NOT_NULL = {
    *("temperature", "top_p", "top_logprobs", "presence_penalty", "frequency_penalty"),
    *("service_tier", "store", "background", "parallel_tool_calls", "metadata", "tools"),
}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}
IMAGE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


@pytest.fixture
async def eliza(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        Fork(tmp_path) as server,
        httpx2.AsyncClient(base_url=server.http, timeout=60) as http,
    ):
        yield http


async def made(http: httpx2.AsyncClient, said: Any, **more: Any) -> dict[str, Any]:
    """Return a response that completed, checked to the field."""
    answer = await http.post(RESPONSES, json=asked(said, **more))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    check(body)
    assert body["status"] == "completed"
    return body


def check(body: dict[str, Any]) -> None:
    assert body.keys() >= REQUIRED
    assert all(body[name] is not None for name in NOT_NULL)
    Response.model_validate(body, strict=True)
    for tool in body["tools"]:
        assert tool["type"] == "custom" or {"description", "parameters", "strict"} < tool.keys()
    if (usage := body["usage"]) is not None:
        assert usage["input_tokens_details"].keys() == {"cached_tokens", "cache_write_tokens"}


async def test_basic_response(eliza: httpx2.AsyncClient) -> None:
    body = await made(eliza, [{"type": "message", "role": "user", "content": "Say hello."}])
    assert re.fullmatch(r"resp_[0-9a-z]{26}", body["id"])
    (item,) = body["output"]
    assert item["content"][0]["text"]
    assert item["content"][0]["annotations"] == item["content"][0]["logprobs"] == []


async def test_streaming_response(eliza: httpx2.AsyncClient) -> None:
    reads = TypeAdapter[ResponseStreamEvent](ResponseStreamEvent)
    events = await streamed(eliza, RESPONSES, asked("Count to five."))
    for event in events:
        reads.validate_python(event)
    check(events[0]["response"])
    check(events[-1]["response"])
    kinds = [one["type"].removeprefix("response.") for one in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == [
        *("output_text.done", "content_part.done", "output_item.done", "completed")
    ]
    text = "".join(one["delta"] for one in events if "delta" in one)
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text


async def test_each_event_is_one_write(eliza: httpx2.AsyncClient) -> None:
    body = asked("Tell me a story.", stream=True)
    async with eliza.stream("POST", RESPONSES, json=body) as answer:
        pieces = [piece.decode() async for piece in answer.aiter_raw()]
    assert all(piece.endswith("\n\n") for piece in pieces)
    assert events_in("".join(pieces))


async def test_system_prompt(eliza: httpx2.AsyncClient) -> None:
    system = {"type": "message", "role": "system", "content": "You are a pirate."}
    await made(eliza, [system, {"type": "message", "role": "user", "content": "Say hello."}])


async def test_assistant_phase(eliza: httpx2.AsyncClient) -> None:
    said = [
        {"type": "message", "role": "user", "content": "Hello"},
        {"type": "message", "role": "assistant", "content": "Hm.", "phase": "commentary"},
        {"type": "message", "role": "user", "content": "Go on"},
    ]
    await made(eliza, said)


async def test_tool_calling(eliza: httpx2.AsyncClient) -> None:
    body = await made(eliza, "What's the weather like in San Francisco?", tools=[WEATHER])
    (call,) = body["output"]
    assert (call["type"], call["name"], call["status"]) == (
        *("function_call", "get_weather", "completed"),
    )
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 C"}
    then = await made(eliza, [output], previous_response_id=body["id"], tools=[WEATHER])
    assert then["output"][0]["type"] == "message"


async def test_image_input(eliza: httpx2.AsyncClient) -> None:
    parts = [
        {"type": "input_text", "text": "What do you see?"},
        {"type": "input_image", "image_url": IMAGE},
    ]
    await made(eliza, [{"type": "message", "role": "user", "content": parts}])


async def test_multi_turn(eliza: httpx2.AsyncClient) -> None:
    said = [
        {"type": "message", "role": "user", "content": "My name is Alice."},
        {"type": "message", "role": "assistant", "content": "Hello Alice!"},
        {"type": "message", "role": "user", "content": "What is my name?"},
    ]
    await made(eliza, said)


async def test_compact_response(eliza: httpx2.AsyncClient) -> None:
    said = [{"type": "message", "role": "user", "content": "My name is Alice."}]
    short = await eliza.post(f"{RESPONSES}/compact", json=asked(said))
    *users, summary = short.json()["output"]
    assert (summary["type"], len(users)) == ("compaction", 1)
    await made(eliza, [*users, summary, {"type": "message", "role": "user", "content": "So?"}])
    without = await eliza.post(f"{RESPONSES}/compact", json={"input": said})
    assert error_of(without) == (400, "missing_required_parameter", "model")


async def test_eliza_leaves_alone_what_is_called_by_a_grammar(eliza: httpx2.AsyncClient) -> None:
    form = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    patch = {"type": "custom", "name": "apply_patch", "format": form}
    body = await made(eliza, "Please apply the patch.", tools=[patch])
    assert [item["type"] for item in body["output"]] == ["message"]
    # What she refuses is told in her words.
    forced = asked(tools=[patch], tool_choice="required")
    told = (400, "unsupported_parameter", "tools[0].custom.format")
    assert error_of(await eliza.post(RESPONSES, json=forced)) == told


async def test_an_unknown_call_fails(eliza: httpx2.AsyncClient) -> None:
    first = await made(eliza, "Hello")
    output = {"type": "function_call_output", "call_id": "call_x", "output": "?"}
    body = asked([output], previous_response_id=first["id"])
    assert error_of(await eliza.post(RESPONSES, json=body)) == (400, None, "input")


async def test_a_conversation_has_openais_shape(eliza: httpx2.AsyncClient) -> None:
    body = (await eliza.post(CONVERSATIONS, json={})).json()
    Conversation.model_validate(body, strict=True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"input": "x"}, (400, "missing_required_parameter", "model")),
        ({"model": "m"}, (400, "missing_required_parameter", "input")),
        (asked(7), (400, "invalid_type", "input")),
        (asked([{"type": "x"}]), (400, "invalid_value", "input[0].type")),
        (asked([{"role": "x", "content": "y"}]), (400, "invalid_value", "input[0].role")),
        (
            asked([{"role": "user", "content": [{"type": "x"}]}]),
            (400, "invalid_value", "input[0].content[0].type"),
        ),
        (asked(tools=[{"type": "web_search"}]), (400, "invalid_value", "tools[0].type")),
        (asked(tools=[{"type": "function"}]), (400, "missing_required_parameter", "tools[0].name")),
        (asked(tool_choice="required"), (400, None, "tool_choice")),
        (asked(prompt={"id": "p"}), (400, "unsupported_parameter", "prompt")),
        (asked(top_logprobs=3), (400, "unsupported_parameter", "top_logprobs")),
        (asked(include=["x"]), (400, "invalid_value", "include[0]")),
        (asked(truncation="some"), (400, "invalid_value", "truncation")),
        (asked(max_output_tokens=3), (400, "integer_below_min_value", "max_output_tokens")),
        (asked(temperature=3), (400, "decimal_above_max_value", "temperature")),
        (asked(background=True, store=False), (400, None, "background")),
        (
            asked(previous_response_id="resp_a", conversation="b"),
            (400, "mutually_exclusive_parameters", None),
        ),
        (asked(text={"format": {"type": "xml"}}), (400, "invalid_value", "text.format.type")),
        (asked(conversation="none"), (404, None, None)),
        (asked(metadata={"a": 1}), (400, None, "metadata")),
        (asked("a\0b"), (400, None, "input")),
    ],
)
async def test_what_is_wrong_is_refused_in_openais_words(
    eliza: httpx2.AsyncClient, body: dict[str, Any], told: tuple[int, str | None, str | None]
) -> None:
    assert error_of(await eliza.post(RESPONSES, json=body)) == told


async def test_what_is_not_there(eliza: httpx2.AsyncClient) -> None:
    for path in ("resp_x", "turn_x", "x", "resp_x/input_items", "resp_x?stream=true"):
        assert error_of(await eliza.get(f"{RESPONSES}/{path}")) == (404, None, None)
    assert error_of(await eliza.get(f"{CONVERSATIONS}/x/items/msg_x")) == (404, None, None)
    assert error_of(await eliza.get(CONVERSATIONS))[0] == 405

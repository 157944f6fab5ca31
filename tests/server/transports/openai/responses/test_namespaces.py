"""Tools as agents offer them: in namespaces, which chats have not, beside a search of the web."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from server.transports.openai.responses.namespaces import joined, named, spaces_of
from tests.server.transports.openai.responses.stateful import (
    RESPONSES,
    TOOLS,
    asked,
    error_of,
    sent,
    streamed,
)
from tests.support.upstream_script import Behaviour, event, say
from tests.support.upstream_server import ScriptedUpstream

CLOSE = {**TOOLS[0], "name": "close", "description": "Closes one."}
SPACE = {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [CLOSE]}
SEARCH = {"type": "web_search", "external_web_access": False}
OFFERED = [*TOOLS, SPACE, SEARCH]


def closing() -> Behaviour:
    call = {"id": "call_a", "function": {"name": "agents__close", "arguments": "{}"}}
    delta = {"tool_calls": [{"index": 0, "type": "function", **call}]}
    return say(event({"choices": [{"index": 0, "delta": delta}]}), finish="tool_calls")


def names(upstream: ScriptedUpstream) -> list[str]:
    return [tool["function"]["name"] for tool in upstream.requests[-1].body["tools"]]


def with_names(value: Any) -> list[tuple[Any, Any]]:
    """Return all names of what was called in JSON, each with its namespace."""
    found = []
    if isinstance(value, dict):
        if value.get("type") in ("function_call", "response.function_call_arguments.done"):
            found.append((value.get("namespace"), value["name"]))
        value = list(value.values())
    if isinstance(value, list):
        found += [pair for inner in value for pair in with_names(inner)]
    return found


async def test_a_chat_is_told_joined_names_and_a_client_its_own(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, http: httpx2.AsyncClient
) -> None:
    upstream.script(closing())
    response = await client.responses.create(**asked("Close it", tools=OFFERED))
    assert names(upstream) == ["look", "agents__close"]
    (call,) = response.output
    assert (call.type, call.namespace, call.name) == ("function_call", "agents", "close")
    shown = (await http.get(f"{RESPONSES}/{response.id}")).json()
    assert shown["tools"] == [TOOLS[0], SPACE]
    events = await streamed(http, f"{RESPONSES}/{response.id}?stream=true")
    assert {pair for pair in with_names(events) if pair[0]} == {("agents", "close")}
    assert {name for _, name in with_names(events)} == {"close"}

    output = {"type": "function_call_output", "call_id": call.call_id, "output": "closed"}
    more = asked([output], previous_response_id=response.id, tools=OFFERED)
    await client.responses.create(**more)
    assert sent(upstream)[1]["tool_calls"][0]["function"]["name"] == "agents__close"


async def test_a_client_that_sends_its_history_is_understood(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    call = {"type": "function_call", "call_id": "call_a", "name": "close", "namespace": "agents"}
    said = [
        {"role": "user", "content": "Close it"},
        {**call, "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_a", "output": "closed"},
    ]
    answer = await http.post(RESPONSES, json=asked(said, tools=OFFERED))
    assert sent(upstream)[1]["tool_calls"][0]["function"]["name"] == "agents__close"
    heard = (await http.get(f"{RESPONSES}/{answer.json()['id']}/input_items")).json()["data"]
    assert with_names(heard) == [("agents", "close")]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([SEARCH], "tools[0].type"),
        ([*TOOLS, {"type": "file_search", "vector_store_ids": ["vs_a"]}], "tools[1].type"),
        ([{**SPACE, "name": ""}], "tools[0].name"),
        ([{**SPACE, "name": 7}], "tools[0].name"),
        ([{**SPACE, "tools": []}], "tools[0].tools"),
        ([{**SPACE, "tools": 7}], "tools[0].tools"),
        ([{**SPACE, "tools": [SPACE]}], "tools[0].tools[0].type"),
        ([{**SPACE, "tools": [SEARCH]}], "tools[0].tools[0].type"),
        ([{**SPACE, "tools": [{"type": "function"}]}], "tools[0].tools[0].name"),
        ([SPACE, {**CLOSE, "name": "agents__close"}], "tools"),
        ([SPACE, SPACE], "tools"),
    ],
)
async def test_what_cannot_be_offered_is_refused(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream, tools: Any, param: str
) -> None:
    status, _, told = error_of(await http.post(RESPONSES, json=asked(tools=tools)))
    assert (status, told) == (400, param)
    assert not upstream.requests


async def test_what_stands_wrong_in_the_input_is_refused(http: httpx2.AsyncClient) -> None:
    for tools, param in ((7, "input[0].tools"), ([SEARCH], "input[0].tools[0].type")):
        said = [{"type": "additional_tools", "tools": tools}, {"role": "user", "content": "Hi"}]
        assert error_of(await http.post(RESPONSES, json=asked(said)))[2] == param
    alone = await http.post(RESPONSES, json=asked([{"type": "additional_tools", "tools": TOOLS}]))
    assert error_of(alone)[:2] == (400, "missing_required_parameter")


async def test_a_search_that_is_chosen_is_refused(http: httpx2.AsyncClient) -> None:
    body = asked(tools=OFFERED, tool_choice={"type": "web_search"})
    assert error_of(await http.post(RESPONSES, json=body))[2] == "tool_choice.type"


async def test_tools_may_stand_in_the_input(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script(closing())
    more = {"type": "additional_tools", "role": "developer", "tools": [SPACE, SEARCH]}
    said = [more, {"role": "user", "content": "Close it"}]
    response = await client.responses.create(**asked(said, tool_choice="auto"))
    assert names(upstream) == ["agents__close"]
    assert sent(upstream) == [{"role": "user", "content": "Close it"}]
    assert response.output[0].namespace == "agents"


async def test_no_tools_are_none(http: httpx2.AsyncClient, upstream: ScriptedUpstream) -> None:
    for nothing in ("[]", "null"):
        answer = await http.post(RESPONSES, json=asked(tools=json.loads(nothing)))
        assert answer.json()["tools"] == []
        assert "tools" not in upstream.requests[-1].body


def test_long_names_are_cut_to_what_a_chat_takes_and_told_apart() -> None:
    tools: list[dict[str, str]] = [{"type": "function", "name": f"{'x' * 60}{end}"} for end in "ab"]
    spaces = spaces_of([{"type": "namespace", "name": "space", "tools": tools}])
    assert len(spaces) == 2
    for tool in tools:
        name = joined("space", tool["name"])
        assert len(name) == 64
        assert named(name, spaces) == {"name": tool["name"], "namespace": "space"}

"""Responses as OpenAI's client creates them: plain, streamed, as branches, in conversations."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.server.transports.openai.responses.stateful import (
    RESPONSES,
    TOOLS,
    asked,
    calling,
    error_of,
    roles,
    scripted_env,
    sent,
    streamed,
    told,
)
from tests.support.live import Fork
from tests.support.upstream_script import MODEL, say
from tests.support.upstream_server import ScriptedUpstream


async def test_plain_streamed_and_read_again_are_the_same(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, http: httpx2.AsyncClient
) -> None:
    upstream.script(calling(), calling())
    plain = await client.responses.create(**asked("Weather?", tools=TOOLS))
    assert plain == await client.responses.retrieve(plain.id)
    assert [one.type for one in plain.output] == ["reasoning", "message", "function_call"]
    assert (plain.output_text, plain.status, plain.error) == ("Looking.", "completed", None)
    assert plain.usage is not None
    assert (plain.usage.input_tokens, plain.usage.output_tokens) == (11, 7)
    async with client.responses.stream(**asked("Weather?", tools=TOOLS)) as stream:
        events = [one async for one in stream]
        final = await stream.get_final_response()
    numbers = [one.sequence_number for one in events]
    assert numbers == list(range(len(events)))
    again = await told(await client.responses.retrieve(final.id, stream=True))
    live = await streamed(http, f"{RESPONSES}/{final.id}?stream=true")
    assert again == live
    assert [one["type"] for one in again] == [one.type for one in events]
    assert live[-1]["response"] == (await http.get(f"{RESPONSES}/{final.id}")).json()
    after = await streamed(http, f"{RESPONSES}/{final.id}?stream=true&starting_after=5")
    assert after == live[6:]
    async with client.responses.stream(response_id=final.id, starting_after=5) as resumed:
        assert [one.sequence_number async for one in resumed] == numbers[6:]
        assert (await resumed.get_final_response()).id == final.id
    refused = await http.get(f"{RESPONSES}/{final.id}?stream=true&starting_after=x")
    assert error_of(refused) == (400, "invalid_type", "starting_after")


async def test_a_tool_is_called_and_answered(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script(calling(), say("18 C"))
    first = await client.responses.create(**asked("Weather?", tools=TOOLS, tool_choice="required"))
    assert upstream.requests[-1].body["tool_choice"] == "required"
    call = first.output[-1]
    assert call.type == "function_call"
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "18 C"}
    then = await client.responses.create(**asked([output], previous_response_id=first.id))
    assert then.output_text == "18 C"
    assert roles(upstream) == ["user", "assistant", "tool"]
    assert sent(upstream)[1]["tool_calls"][0]["id"] == "call_a"
    assert sent(upstream)[1]["reasoning_content"] == "Let me see."
    # The same by a client that keeps its own history.
    resent: Any = [{"role": "user", "content": "Weather?"}]
    resent += [one.to_dict() for one in first.output]
    await client.responses.create(**asked([*resent, output], store=False))
    assert sent(upstream, 2) == sent(upstream, 1)


async def test_branches_are_written_side_by_side(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    first = await client.responses.create(**asked("One", instructions="Be brief."))
    assert roles(upstream) == ["system", "user"]
    gate = asyncio.Event()
    upstream.script(say("A", gate), say("B", gate))
    both = [
        asyncio.create_task(client.responses.create(**asked(text, previous_response_id=first.id)))
        for text in ("Two", "Three")
    ]
    await upstream.request(2)
    gate.set()
    answers = await asyncio.gather(*both)
    assert sorted(one.output_text for one in answers) == ["A", "B"]
    for number in (1, 2):
        assert roles(upstream, number) == ["user", "assistant", "user"]  # instructions end
    assert {one.previous_response_id for one in answers} == {first.id}


async def test_one_that_runs_is_waited_for(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script(say("First", gate))
    first = await client.responses.create(**asked("One", background=True))
    assert first.status == "in_progress"
    then = asyncio.create_task(
        client.responses.create(**asked("Two", previous_response_id=first.id))
    )
    await upstream.request(0)
    assert len(upstream.requests) == 1
    gate.set()
    await then
    assert sent(upstream)[1] == {"role": "assistant", "content": "First"}


async def test_a_conversation_is_the_same_as_everywhere(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, http: httpx2.AsyncClient
) -> None:
    await http.post("/ask/c", json={"prompt": "One", "system_prompt": "Be kind."})
    raw = await client.responses.with_raw_response.create(**asked("Two", conversation="c"))
    assert raw.headers["x-conversation-id"] == "c"
    assert roles(upstream) == ["system", "user", "assistant", "user"]
    assert raw.parse().conversation is not None
    await http.post("/ask/c", json={"prompt": "Three"})
    assert roles(upstream)[1:] == ["user", "assistant"] * 2 + ["user"]
    kept = (await http.get("/conversations/c/messages")).json()["data"]
    assert [one["role"] for one in kept] == ["user", "assistant"] * 3
    turn = (await http.get(f"/turns/{raw.headers['x-turn-id']}")).json()
    assert (turn["wire"], turn["conversation_id"]) == ("openai", "c")


async def test_one_that_names_none_is_in_no_list(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    raw = await client.responses.with_raw_response.create(**asked("One"))
    id_ = raw.headers["x-conversation-id"]
    assert (await http.get("/conversations")).json()["data"] == []
    assert (await http.get(f"/conversations/{id_}")).json()["message_count"] == 2
    first = raw.parse()
    await client.responses.create(**asked("Two", previous_response_id=first.id))
    branch = (await http.get(f"/conversations/{id_}/messages")).json()["data"]
    assert [one["content"] for one in branch if one["role"] == "user"] == ["One", "Two"]


async def test_a_branch_of_a_listed_conversation_leaves_its_head(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    turn = (await http.post("/ask/c", json={"prompt": "One"})).json()
    previous = turn["id"].replace("turn_", "resp_")
    read = await client.responses.retrieve(previous)
    assert (read.output_text, read.status) == (turn["answer"], "completed")
    await client.responses.create(**asked("Two", previous_response_id=previous))
    assert (await http.get("/conversations/c")).json()["head_id"] == turn["answer_id"]


async def test_what_is_not_stored_is_kept_by_nobody(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    raw = await client.responses.with_raw_response.create(**asked("One", store=False))
    assert "x-conversation-id" not in raw.headers
    said = raw.parse()
    assert (said.status, said.output_text) == ("completed", "You said: One")
    for path in (f"{RESPONSES}/{said.id}", f"/turns/{said.id.replace('resp', 'turn')}"):
        assert (await http.get(path)).status_code == 404
    first = await client.responses.create(**asked("Two"))
    then = asked("Three", previous_response_id=first.id, store=False)
    await client.responses.create(**then)
    assert [one["content"] for one in sent(upstream)] == ["Two", "You said: Two", "Three"]
    await http.post("/conversations", json={"id": "c"})
    kept = await client.responses.create(**asked("Four", conversation="c", store=False))
    assert (await http.get("/conversations/c")).json()["message_count"] == 2
    assert (await http.get(f"{RESPONSES}/{kept.id}")).status_code == 404


async def test_what_is_not_stored_ends_with_its_asker(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.script(say("Once ", asyncio.Event()))
    body = asked("One", store=False, stream=True)
    async with http.stream("POST", RESPONSES, json=body) as answer:
        assert await anext(answer.aiter_bytes())
    request = await upstream.request(0)
    await request.gone.wait()


async def test_a_stored_one_outlives_its_asker(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script(say("Once upon a time", gate, "."))
    async with http.stream("POST", RESPONSES, json=asked("One", stream=True)) as answer:
        turn = answer.headers["x-turn-id"]
    gate.set()
    events = await streamed(http, f"{RESPONSES}/{turn.replace('turn', 'resp')}?stream=true")
    assert events[-1]["response"]["status"] == "completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Once upon a time."


async def test_all_that_an_input_may_say_goes_upstream(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    items: Any = [
        {"role": "developer", "content": "Answer in verse."},
        {"role": "user", "content": [{"type": "input_text", "text": "Look: "}]},
        {
            "type": "message",
            "role": "assistant",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "At what?"}],
        },
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "At this"},
                {"type": "input_image", "image_url": image, "detail": "low"},
            ],
        },
        {"type": "custom_tool_call", "call_id": "k", "name": "run", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "k", "output": "a.txt"},
    ]
    more: dict[str, Any] = {
        "tools": [{"type": "custom", "name": "run"}],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "custom", "name": "run"}],
        },
        "text": {
            "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low"},
        "max_output_tokens": 99,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "metadata": {"a": "b"},
    }
    made = await client.responses.create(**asked(items, **more))
    body = upstream.requests[-1].body
    assert [one["role"] for one in body["messages"]] == [
        *("system", "user", "assistant", "user", "assistant", "tool")
    ]
    assert body["messages"][3]["content"][1]["image_url"] == {"url": image, "detail": "low"}
    assert body["messages"][4]["tool_calls"][0]["custom"] == {"name": "run", "input": "ls"}
    assert body["tool_choice"]["allowed_tools"]["tools"] == [
        {"type": "custom", "custom": {"name": "run"}}
    ]
    shape = {"name": "x", "schema": {"type": "object"}}
    assert body["response_format"] == {"type": "json_schema", "json_schema": shape}
    assert (body["reasoning_effort"], body["verbosity"], body["user"]) == ("low", "low", "u")
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.9, 99)
    listed = await client.responses.input_items.list(made.id, order="asc", limit=4)
    shown: list[dict[str, Any]] = [one.to_dict() for one in listed.data]
    assert [one["role"] for one in shown] == ["developer", "user", "assistant", "user"]
    assert shown[2]["phase"] == "commentary"
    assert shown[3]["content"][1]["detail"] == "low"
    rest = await client.responses.input_items.list(made.id, order="asc", after=listed.data[-1].id)
    assert [one.type for one in rest.data] == ["custom_tool_call", "custom_tool_call_output"]
    newest = await client.responses.input_items.list(made.id, limit=1)
    assert (newest.data[0].id, newest.has_more) == (rest.data[-1].id, True)
    told_again: dict[str, Any] = made.to_dict()
    assert {name: told_again[name] for name in ("metadata", "user", "temperature")} == {
        "metadata": {"a": "b"},
        "user": "u",
        "temperature": 0.5,
    }


async def test_an_item_may_be_named(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, http: httpx2.AsyncClient
) -> None:
    upstream.script(calling())
    first = await client.responses.create(**asked("Weather?", tools=TOOLS))
    names: Any = [{"type": "item_reference", "id": one.id} for one in first.output]
    output = {"type": "function_call_output", "call_id": "call_a", "output": "18 C"}
    user = {"role": "user", "content": "Weather?"}
    await client.responses.create(**asked([user, *names, output]))
    assert roles(upstream) == ["user", "assistant", "tool"]
    missing = asked([{"type": "item_reference", "id": "msg_x"}, user])
    assert error_of(await http.post(RESPONSES, json=missing)) == (404, None, None)


async def test_items_that_are_named_are_bounded_as_a_body_is(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    env = scripted_env(upstream, TRIALOGUE_MAX_BODY_BYTES="20000")
    async with (
        Fork(tmp_path, env=env) as server,
        httpx2.AsyncClient(base_url=server.http, timeout=60) as http,
    ):
        item = {"role": "user", "content": "x " * 4_000}
        made = (await http.post("/v1/conversations", json={"items": [item]})).json()
        path = f"/v1/conversations/{made['id']}/items"
        (kept,) = (await http.get(path)).json()["data"]
        name = {"type": "item_reference", "id": kept["id"]}
        for url, field in ((RESPONSES, "input"), (path, "items")):
            body = {**asked(), field: [name] * 3}
            refused = await http.post(url, json=body)
            assert error_of(refused) == (413, "request_too_large", f"{field}[2]")
            assert (await http.post(url, json={**body, field: [name] * 2})).status_code == 200


async def test_a_key_makes_one_response(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    key = {"idempotency-key": "once"}
    first = (await http.post(RESPONSES, json=asked(), headers=key)).json()
    assert (await http.post(RESPONSES, json=asked(), headers=key)).json() == first
    events = await streamed(http, RESPONSES, asked(), headers=key)
    assert events[-1]["response"] == first
    assert len(upstream.requests) == 1
    other = await http.post(RESPONSES, json=asked(metadata={"a": "b"}), headers=key)
    assert other.status_code == 422


async def test_tokens_are_counted_without_asking(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    counted = await client.responses.input_tokens.count(model=MODEL, input="Hello")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 8)
    first = await client.responses.create(**asked())
    more = await client.responses.input_tokens.count(
        model=MODEL, input="Hello", previous_response_id=first.id
    )
    assert more.input_tokens > 8
    assert len(upstream.requests) == 1


async def test_a_context_is_made_short(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, http: httpx2.AsyncClient
) -> None:
    upstream.script(say("Hi"), say("They said hello."))
    first = await client.responses.create(**asked("Hello"))
    made = await client.responses.compact(
        model=MODEL, input="And more", previous_response_id=first.id
    )
    assert (made.object, made.output[-1].type) == ("response.compaction", "compaction")
    upstream.script(say("They said hello."))
    body = asked("And more", previous_response_id=first.id)
    *users, summary = (await http.post(f"{RESPONSES}/compact", json=body)).json()["output"]
    assert [one["content"][0]["text"] for one in users] == ["Hello", "And more"]
    assert summary["type"] == "compaction"
    again: Any = [*users, summary, {"role": "user", "content": "Go on"}]
    await client.responses.create(**asked(again))
    assert "They said hello." in str(sent(upstream))
    foreign = [{"type": "compaction", "encrypted_content": "gAAAA"}, *users]
    refused = await http.post(RESPONSES, json=asked(foreign))
    assert error_of(refused)[1] == "invalid_encrypted_content"


@pytest.mark.parametrize("truncation", ["disabled", "auto"])
async def test_a_history_that_does_not_fit(
    http: httpx2.AsyncClient, upstream: ScriptedUpstream, truncation: str
) -> None:
    first = (await http.post(RESPONSES, json=asked("old " * 900))).json()
    body = asked("new", truncation=truncation, max_output_tokens=127_000)
    answer = await http.post(RESPONSES, json=body | {"previous_response_id": first["id"]})
    if truncation == "auto":
        assert answer.status_code == 200
        assert sent(upstream) == [{"role": "user", "content": "new"}]
        return
    assert error_of(answer) == (400, "context_length_exceeded", "input")
    assert "maximum context length" in answer.json()["error"]["message"]
    assert len(upstream.requests) == 1

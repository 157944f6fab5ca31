"""Tools of MCP servers: run within the turn that calls them, for every wire and for responses."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.access import ANN, BOB
from tests.support.live import Fork
from tests.support.upstream_script import MODEL, Behaviour, Exchange, event, fail, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, Events

PROGRAM = [sys.executable, str(Path(__file__).parents[1] / "support" / "mcp_server.py")]
WEATHER = {"name": "weather", "command": PROGRAM}
ASKED = {"type": "mcp", "server_label": "weather"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}


def calling(*calls: tuple[str, Mapping[str, Any]], text: str = "Looking. ") -> Behaviour:
    """Return an answer that says a text and calls tools."""
    deltas: list[dict[str, Any]] = [{"content": text}]
    for at, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        deltas.append({"tool_calls": [{"index": at, "id": f"call_{at}", "function": function}]})
    chunks = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return say(*chunks, finish="tool_calls", usage=USAGE)


async def weather(exchange: Exchange) -> None:
    """Ask for the temperature in the city that the user names, and tell it."""
    messages = exchange.request.body["messages"]
    if messages[-1]["role"] == "user" and exchange.request.body.get("tools"):
        city = str(messages[-1]["content"]).rstrip("?")
        await calling(("weather__temperature", {"city": city}))(exchange)
    else:
        await say(f"It is {messages[-1]['content']}.", usage=USAGE)(exchange)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=(MODEL,)) as scripted:
        scripted.otherwise = weather
        yield scripted


def env_of(upstream: ScriptedUpstream, *servers: Mapping[str, Any], **more: str) -> dict[str, str]:
    own = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k", "TRIALOGUE_MODEL": MODEL}
    return {**own, "TRIALOGUE_MCP": json.dumps(servers or [WEATHER]), **more}


@pytest.fixture
async def server(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Fork]:
    async with Fork(tmp_path, env=env_of(upstream)) as started:
        yield started


async def ended(events: Events) -> Mapping[str, Any]:
    turn = [one async for one in events][-1].turn
    assert turn is not None
    return turn


def messages(upstream: ScriptedUpstream, number: int = -1) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = upstream.requests[number].body["messages"]
    return sent


PARTS = [
    {"type": "text", "text": "Looking. "},
    {
        "type": "function",
        "id": "mcp_call_0",
        "function": {"name": "weather__temperature", "arguments": '{"city": "Oslo"}'},
    },
    {"type": "tool_result", "tool_call_id": "mcp_call_0", "text": "18 C in Oslo"},
    {"type": "text", "text": "It is 18 C in Oslo."},
]


@pytest.mark.parametrize("name", WIRES)
async def test_a_tool_is_run_within_the_turn(
    server: Fork, upstream: ScriptedUpstream, name: str
) -> None:
    wire = WIRES[name](server)
    turn = await ended(wire.ask("c", "Oslo?"))
    assert (turn["status"], turn["finish_reason"]) == ("completed", "stop")
    assert (turn["parts"], turn["answer"]) == (PARTS, "Looking. It is 18 C in Oslo.")
    assert turn["usage"] == {name: 2 * count for name, count in USAGE.items()}
    first, second = upstream.requests
    (tool,) = [
        one for one in first.body["tools"] if one["function"]["name"].endswith("temperature")
    ]
    assert tool["function"]["description"] == "Return the temperature in a city."
    assert second.body["tools"] == first.body["tools"]
    _, asked, result = second.body["messages"]
    assert (asked["content"], asked["tool_calls"][0]["id"]) == ("Looking. ", "call_0")
    assert result == {"role": "tool", "tool_call_id": "call_0", "content": "18 C in Oslo"}
    for other in WIRES.values():
        assert await ended(other(server).follow(turn["id"])) == turn
    await ended(wire.ask("c", "Bergen?"))
    sent = messages(upstream, -2)
    assert sent[1] == {"role": "assistant", "content": "Looking. It is 18 C in Oslo."}


async def test_a_response_has_a_call_that_was_run(server: Fork, upstream: ScriptedUpstream) -> None:
    async with httpx2.AsyncClient(base_url=f"{server.http}/v1", timeout=60) as http:
        body = {"model": MODEL, "input": "Oslo?", "tools": [ASKED]}
        response = (await http.post("/responses", json=body)).json()
        assert response["status"] == "completed"
        said, call, then = response["output"]
        assert (said["type"], then["type"]) == ("message", "message")
        assert call.pop("id").startswith("mcp_")
        assert call == {
            "type": "mcp_call",
            "status": "completed",
            "server_label": "weather",
            "name": "temperature",
            "arguments": '{"city": "Oslo"}',
            "output": "18 C in Oslo",
            "error": None,
            "approval_request_id": None,
        }
        streamed = await http.get(f"/responses/{response['id']}?stream=true")
        events = [
            json.loads(line.removeprefix("data: "))
            for line in streamed.text.splitlines()
            if line.startswith("data: {")
        ]
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        done = [one["item"] for one in events if one["type"] == "response.output_item.done"]
        assert done == events[-1]["response"]["output"]
        kinds = [one["type"].removeprefix("response.") for one in events if "mcp" in one["type"]]
        assert kinds[0] == "mcp_call.in_progress"
        assert kinds[-2:] == ["mcp_call_arguments.done", "mcp_call.completed"]
        more = {**body, "input": "Bergen?", "previous_response_id": response["id"]}
        again = (await http.post("/responses", json=more)).json()
        assert again["output"][1]["output"] == "18 C in Bergen"


async def test_a_server_is_asked_at_its_address(
    tmp_path: Path, upstream: ScriptedUpstream, unused_tcp_port: int
) -> None:
    program = await asyncio.create_subprocess_exec(*PROGRAM, str(unused_tcp_port))
    try:
        await _listening(unused_tcp_port)
        there = {"name": "weather", "url": f"http://127.0.0.1:{unused_tcp_port}/mcp"}
        async with Fork(tmp_path, env=env_of(upstream, there)) as server:
            turn = await ended(WIRES["rest"](server).ask("c", "Oslo?"))
            assert turn["parts"] == PARTS
            program.kill()
            await program.wait()
            turn = await ended(WIRES["rest"](server).ask("c", "Oslo?"))
            assert turn["status"] == "completed"
            assert turn["parts"][2]["text"].startswith("Error: ")
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def _listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def test_a_failure_is_told_the_model(server: Fork, upstream: ScriptedUpstream) -> None:
    unknown = calling(("weather__temperature", {"city": "Nowhere"}), ("weather__temperature", {}))
    upstream.script(unknown)
    turn = await ended(WIRES["rest"](server).ask("c", "Nowhere?"))
    assert turn["status"] == "completed"
    results = [one["content"] for one in messages(upstream)[-2:]]
    assert all(one.startswith("Error: ") for one in results)
    assert [one["text"] for one in turn["parts"] if one["type"] == "tool_result"] == results


async def test_what_stops_the_turn_stops_the_tool(
    server: Fork, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.script(calling(("weather__wait", {"folder": str(tmp_path)})))
    wire = WIRES["rest"](server)
    events = wire.ask("c", "Wait")
    first = await anext(events)
    await _there(tmp_path / "began")
    await wire.cancel(first.turn_id)
    turn = await ended(events)
    assert (turn["status"], turn["answer"]) == ("cancelled", "Looking. ")
    await _there(tmp_path / "stopped")
    assert (await ended(wire.ask("c", "Oslo?")))["status"] == "completed"


async def _there(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.02)


async def test_a_model_that_calls_for_ever_has_to_answer(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    upstream.otherwise = calling(("weather__temperature", {"city": "Oslo"}), text="Again. ")
    turn = await ended(WIRES["rest"](server).ask("c", "Oslo?"))
    assert turn["status"] == "completed"
    assert len(upstream.requests) == 11
    choices = [one.body.get("tool_choice") for one in upstream.requests]
    assert choices == [*(10 * [None]), "none"]
    last = [one for one in turn["parts"] if one["type"] == "tool_result"][-1]
    assert last["text"].startswith("Error: this was not run")


async def test_so_many_calls_are_run_at_once(server: Fork, upstream: ScriptedUpstream) -> None:
    upstream.script(calling(*(40 * [("weather__temperature", {"city": "Oslo"})])))
    await ended(WIRES["rest"](server).ask("c", "Oslo?"))
    results = [one["content"] for one in messages(upstream) if one["role"] == "tool"]
    assert results[:32] == 32 * ["18 C in Oslo"]
    assert all(one.startswith("Error: this was not run") for one in results[32:])
    assert len(results) == 40


async def test_a_result_is_cut_to_the_room_there_is(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script(calling(("weather__much", {"letters": 40_000})))
    env = env_of(upstream, TRIALOGUE_CONTEXT_WINDOW="2000", TRIALOGUE_MAX_TOKENS="200")
    async with Fork(tmp_path, env=env) as server:
        turn = await ended(WIRES["rest"](server).ask("c", "Much"))
        async with httpx2.AsyncClient(base_url=server.http) as http:
            context = (await http.get(f"/turns/{turn['id']}")).json()["context"]
    assert turn["status"] == "completed"
    result = messages(upstream)[-1]["content"]
    assert result.startswith("word word")
    assert "[cut:" in result[-80:]
    assert 500 < len(result) / 5 < context["budget"] - context["prompt_tokens"]


OWN_TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


async def test_a_caller_s_own_calls_are_left_to_it(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    upstream.script(calling(("look", {}), ("weather__temperature", {"city": "Oslo"})))
    wire = WIRES["websocket"](server)
    turn = await ended(wire.ask("c", "Look and tell", tools=OWN_TOOLS))
    assert (turn["status"], turn["finish_reason"]) == ("completed", "tool_calls")
    assert [one["type"] for one in turn["parts"]] == ["text", "function", "function", "tool_result"]
    results = [{"tool_call_id": "call_0", "content": "seen"}]
    turn = await ended(wire.ask("c", "", tools=OWN_TOOLS, tool_results=results))
    assert turn["status"] == "completed"
    *_, asked, ours, theirs = messages(upstream)
    assert [one["id"] for one in asked["tool_calls"]] == ["call_0", "call_1"]
    assert {ours["content"], theirs["content"]} == {"seen", "18 C in Oslo"}


async def test_what_is_offered_is_for_the_caller_to_narrow(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    upstream.otherwise = say("Yes.")

    async def names(**given: Any) -> list[str]:
        async with httpx2.AsyncClient(base_url=server.http, timeout=60) as http:
            answer = await http.post("/ask/c", json={"prompt": "Well?", **given})
            assert answer.status_code == 200, answer.text
        sent = upstream.requests[-1].body
        assert ("tool_choice" in sent) == ("tools" in sent and "tool_choice" in given)
        return [one["function"]["name"] for one in sent.get("tools", ())]

    all_of_it = ["weather__temperature", "weather__wait", "weather__much"]
    assert await names() == all_of_it
    assert await names(tools=OWN_TOOLS) == ["look", *all_of_it]
    assert await names(tools=[ASKED]) == all_of_it
    only = {**ASKED, "allowed_tools": ["much"]}
    assert await names(tools=[only, *OWN_TOOLS], tool_choice="auto") == ["look", "weather__much"]
    assert await names(tool_choice="none") == []
    assert await names(tools=OWN_TOOLS, tool_choice="none") == ["look"]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "mcp", "server_label": "elsewhere"},
        {"type": "mcp"},
        {**ASKED, "server_url": "http://127.0.0.1:1/"},
        {**ASKED, "headers": {"authorization": "x"}},
        {**ASKED, "allowed_tools": "much"},
        {**ASKED, "require_approval": 5},
    ],
)
async def test_servers_are_the_operator_s_to_name(server: Fork, tool: dict[str, Any]) -> None:
    async with httpx2.AsyncClient(base_url=server.http) as http:
        asked = await http.post("/ask/c", json={"prompt": "Well?", "tools": [tool]})
        assert (asked.status_code, asked.json()["error"]["code"]) == (400, "invalid_request")
        assert (await http.get("/conversations/c")).status_code == 404


async def test_a_server_is_for_the_keys_that_it_names(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.otherwise = say("Yes.")
    env = env_of(upstream, {**WEATHER, "keys": ["ann"]}, TRIALOGUE_API_KEYS="ann:one,bob:two")
    async with Fork(tmp_path, env=env) as server, httpx2.AsyncClient(base_url=server.http) as http:
        for key, has in ((ANN, True), (BOB, False)):
            body: dict[str, Any] = {"prompt": "Well?"}
            assert (await http.post("/ask/c", json=body, headers=key)).status_code == 200
            assert ("tools" in upstream.requests[-1].body) == has
            named = await http.post("/ask/c", json={**body, "tools": [ASKED]}, headers=key)
            assert named.status_code == (200 if has else 400)
            body = {"model": MODEL, "input": "Well?", "tools": [ASKED]}
            answer = await http.post("/v1/responses", json=body, headers=key)
            assert answer.status_code == (200 if has else 400)


APPROVED = {**WEATHER, "approve": ["temperature"]}


@pytest.mark.parametrize("name", WIRES)
async def test_a_call_waits_for_approval(
    tmp_path: Path, upstream: ScriptedUpstream, name: str
) -> None:
    async with Fork(tmp_path, env=env_of(upstream, APPROVED)) as server:
        wire = WIRES[name](server)
        for decided, answer in (("approve", "18 C in Oslo"), ("too dear", "too dear")):
            turn = await ended(wire.ask("c", "Oslo?"))
            assert (turn["status"], turn["answer"]) == ("completed", "Looking. ")
            asked = turn["parts"][1]
            assert asked["id"] == "mcpr_call_0"
            results = [{"tool_call_id": asked["id"], "content": decided}]
            turn = await ended(wire.ask("c", "", tool_results=results))
            assert (turn["status"], answer in turn["answer"]) == ("completed", True)
            roles = [one["role"] for one in messages(upstream)[-3:]]
            if decided == "approve":
                assert turn["parts"] == [*PARTS[1:3], PARTS[3]]
                assert roles == ["tool", "assistant", "tool"]
                assert messages(upstream)[-1]["content"] == "18 C in Oslo"
            else:
                assert turn["parts"] is None
                assert messages(upstream)[-1]["content"] == "The call was not approved: too dear"


@pytest.mark.parametrize("store", [True, False])
async def test_a_response_asks_for_approval(
    tmp_path: Path, upstream: ScriptedUpstream, store: bool
) -> None:
    async with (
        Fork(tmp_path, env=env_of(upstream)) as server,
        httpx2.AsyncClient(base_url=f"{server.http}/v1", timeout=60) as http,
    ):
        tools = [{**ASKED, "require_approval": "always"}]
        body: dict[str, Any] = {"model": MODEL, "tools": tools, "store": store}
        question = {"role": "user", "content": "Oslo?"}
        first = (await http.post("/responses", json={**body, "input": [question]})).json()
        said, request = first["output"]
        id_ = request.pop("id")
        assert request == {
            "type": "mcp_approval_request",
            "server_label": "weather",
            "name": "temperature",
            "arguments": '{"city": "Oslo"}',
        }
        decided = {"type": "mcp_approval_response", "approval_request_id": id_, "approve": True}
        if store:
            more = {**body, "previous_response_id": first["id"], "input": [decided]}
        else:
            more = {**body, "input": [question, said, {**request, "id": id_}, decided]}
        then = (await http.post("/responses", json=more)).json()
        assert [one["type"] for one in then["output"]] == ["mcp_call", "message"], then
        assert then["output"][0]["output"] == "18 C in Oslo"
        unknown = {**decided, "approval_request_id": "mcpr_x"}
        refused = await http.post("/responses", json={**body, "input": [question, unknown]})
        assert refused.status_code in (400, 404)


async def test_nothing_is_run_twice_that_was_approved_once(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with Fork(tmp_path, env=env_of(upstream, APPROVED)) as server:
        wire = WIRES["rest"](server)
        await ended(wire.ask("c", "Oslo?"))
        results = [{"tool_call_id": "mcpr_call_0", "content": "approve"}]
        upstream.script(fail(400))
        turn = await ended(wire.ask("c", "", tool_results=results))
        assert turn["status"] == "failed"
        upstream.otherwise = say("Well.")
        turn = await ended(wire.ask("c", "And?"))
        assert turn["parts"] is None
        turn = await ended(wire.regenerate("c"))
        assert turn["parts"] is None


async def test_a_program_has_what_it_needs_of_env_too(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    (tmp_path / ".env").write_text("WEATHER_KEY=k\n")
    needs = {**WEATHER, "variables": ["WEATHER_KEY"], "tools": ["temperature"]}
    async with Fork(tmp_path, env=env_of(upstream, needs)) as server:
        assert (await ended(WIRES["rest"](server).ask("c", "Oslo?")))["parts"] == PARTS


async def test_a_key_that_no_header_can_carry_is_refused(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    there = {"name": "weather", "url": "http://127.0.0.1:9/mcp", "key_variable": "WEATHER_KEY"}
    with pytest.raises(AssertionError, match="WEATHER_KEY has characters that no header"):
        async with Fork(tmp_path, env=env_of(upstream, there, WEATHER_KEY="a b")):
            pass


async def test_a_start_says_what_is_missing(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    needs = {**WEATHER, "variables": ["WEATHER_KEY"]}
    with pytest.raises(AssertionError, match=r"\[\[mcp\]\] 'weather': WEATHER_KEY is not set"):
        async with Fork(tmp_path, env=env_of(upstream, needs)):
            pass

"""Tools on every wire: offered by one, told to all, answered by any, and kept in pairs upstream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.live import Fork
from tests.support.tool_model import doubled, unfit
from tests.support.upstream_script import MODEL, Behaviour, Exchange, event, fail, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, Event, Events, RefusedError, Wire

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALLS = [
    {"type": "function", "id": "call_a", "function": {"name": "look", "arguments": '{"at": 1}'}},
    {"type": "function", "id": "call_b", "function": {"name": "look", "arguments": "{}"}},
]
PARTS = [
    {"type": "reasoning", "text": "Let me see."},
    {"type": "text", "text": "Looking. "},
    *CALLS,
]
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 8,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def calling() -> Any:
    deltas: list[Mapping[str, Any]] = [
        *({"reasoning_content": "Let me "}, {"reasoning_content": "see."}, {"content": "Look"}),
        {"content": "ing. "},
        *({"tool_calls": [{"index": at, **call}]} for at, call in enumerate(CALLS)),
    ]
    chunks = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return say(*chunks, finish="tool_calls", usage=USAGE)


async def strict(exchange: Exchange) -> None:
    """Call where tools are offered and nothing was called since the user spoke; else answer."""
    body = exchange.request.body
    if (why := unfit(body["messages"]) or doubled(body["messages"])) is not None:
        await fail(400, why)(exchange)
    elif body.get("tools") and body["messages"][-1]["role"] == "user":
        await calling()(exchange)
    else:
        await say("It is ", "18 C.")(exchange)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=(MODEL,)) as scripted:
        scripted.otherwise = strict
        yield scripted


@pytest.fixture
async def server(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Fork]:
    env = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k", "TRIALOGUE_MODEL": MODEL}
    async with Fork(tmp_path, env=env) as started:
        yield started


async def gathered(events: Events) -> list[Event]:
    return [event async for event in events]


def told(events: list[Event]) -> list[tuple[Any, str]]:
    """Return each part that was told, its pieces joined."""
    parts: list[tuple[Any, str]] = []
    for one in events[1:-1]:
        said = one.text + one.delta
        if parts and parts[-1][0] == one.part:
            parts[-1] = one.part, parts[-1][1] + said
        else:
            parts.append((one.part, said))
    return parts


ANSWERED = [
    ({"index": 0, "type": "reasoning"}, "Let me see."),
    ({"index": 1, "type": "text"}, "Looking. "),
    ({"index": 2, "type": "tool_call", "id": "call_a", "name": "look"}, '{"at": 1}'),
    ({"index": 3, "type": "tool_call", "id": "call_b", "name": "look"}, "{}"),
]
RESULTS = [
    {"tool_call_id": "call_b", "content": "noon"},
    {"tool_call_id": "call_a", "content": "18 C"},
]


@pytest.mark.parametrize("name", WIRES)
async def test_called_on_one_wire_told_on_all_and_answered_by_another(
    server: Fork, upstream: ScriptedUpstream, name: str
) -> None:
    asker, other = WIRES[name](server), WIRES[_next(name)](server)
    events = await gathered(asker.ask("c", "weather?", tools=TOOLS))
    assert told(events) == ANSWERED
    ended = events[-1].turn
    assert ended is not None
    assert (ended["answer"], ended["parts"], ended["usage"]) == ("Looking. ", PARTS, USAGE)
    assert (ended["status"], ended["finish_reason"], ended["wire"]) == (
        *("completed", "tool_calls", name),
    )
    assert [at.cursor for at in events][-1] == sum(len(said) + 1 for _, said in ANSWERED)
    for wire in WIRES.values():
        for after in (0, 5, 12, 25):
            heard = await gathered(wire(server).follow(events[0].turn_id, after))
            assert heard[-1].turn == ended
            assert "".join(one.text for one in heard) == "Looking. "[max(0, after - 13) :]
    done = (await gathered(other.ask("c", "", tool_results=RESULTS, tools=TOOLS)))[-1].turn
    assert done is not None
    assert (done["status"], done["answer"], done["parts"]) == ("completed", "It is 18 C.", None)
    sent = upstream.requests[-1].body["messages"]
    assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]
    assert (sent[1]["content"], sent[1]["reasoning_content"]) == ("Looking. ", "Let me see.")
    assert sent[1]["tool_calls"] == CALLS
    branch = await asker.branch("c")
    assert [one["role"] for one in branch] == ["user", "assistant", "tool", "tool", "assistant"]
    assert all(one["tokens"] > 0 for one in branch)
    # What was thought is not sent again once the user spoke, and the calls stay in pairs.
    assert (await _answer(other.ask("c", "Thanks"))) == "It is 18 C."
    assert "reasoning_content" not in upstream.requests[-1].body["messages"][1]


def _next(name: str) -> str:
    names = [*WIRES]
    return names[(names.index(name) + 1) % len(names)]


async def _answer(events: Events) -> str:
    turn = (await gathered(events))[-1].turn
    assert turn is not None
    assert turn["status"] == "completed", turn
    return str(turn["answer"])


async def _called(server: Fork, conversation: str = "c") -> Wire:
    wire = WIRES["rest"](server)
    await gathered(wire.ask(conversation, "weather?", tools=TOOLS))
    return wire


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize(
    "results",
    [RESULTS[:1], [*RESULTS, RESULTS[0]], [RESULTS[0], {"tool_call_id": "x", "content": ""}]],
    ids=["too few", "twice", "another's"],
)
async def test_results_answer_every_open_call_once(
    server: Fork, name: str, results: list[Any]
) -> None:
    await _called(server)
    wire = WIRES[name](server)
    before = await wire.branch("c")
    with pytest.raises(RefusedError, match="invalid_request"):
        await gathered(wire.ask("c", "", tool_results=results))
    with pytest.raises(RefusedError, match="invalid_request"):
        await gathered(wire.ask("new", "", tool_results=RESULTS))
    assert await wire.branch("c") == before


@pytest.mark.parametrize("name", WIRES)
async def test_a_prompt_alone_is_taken_and_the_calls_are_told_as_not_answered(
    server: Fork, upstream: ScriptedUpstream, name: str
) -> None:
    await _called(server)
    assert await _answer(WIRES[name](server).ask("c", "Never mind.")) == "It is 18 C."
    sent = upstream.requests[-1].body["messages"]
    assert "not answered" in json.dumps(sent)
    assert sent[-1] == {"role": "user", "content": "Never mind."}


async def test_a_prompt_may_follow_the_results(server: Fork, upstream: ScriptedUpstream) -> None:
    wire = await _called(server)
    asked = {"tool_results": RESULTS}
    assert await _answer(wire.ask("c", "And now?", **asked)) == "It is 18 C."
    roles = [one["role"] for one in await wire.branch("c")]
    assert roles == ["user", "assistant", "tool", "tool", "user", "assistant"]
    # By then nothing is open any more.
    with pytest.raises(RefusedError, match="invalid_request"):
        await gathered(wire.ask("c", "Again?", **asked))


async def test_regenerate_offers_the_tools_again_and_answers_the_same_question(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    wire = await _called(server)
    again = (await gathered(wire.regenerate("c")))[-1].turn
    assert again is not None
    assert again["parts"] == PARTS
    assert upstream.requests[-1].body["tools"] == TOOLS
    await gathered(wire.ask("c", "", tool_results=RESULTS, tools=TOOLS))
    assert await _answer(wire.regenerate("c")) == "It is 18 C."
    sent = upstream.requests[-1].body
    assert [one["role"] for one in sent["messages"]] == ["user", "assistant", "tool", "tool"]
    assert sent["tools"] == TOOLS


async def test_an_open_question_never_leaves_the_window_in_part(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as rest:
        await rest.post("/ask/c", json={"prompt": "old " * 900})
        await rest.post("/ask/c", json={"prompt": "weather? " * 300, "tools": TOOLS})
        asked: dict[str, Any] = {"tool_results": RESULTS, "max_tokens": 127_000}
        trimmed = (await rest.post("/ask/c", json=asked)).json()
        assert trimmed["context"]["messages_trimmed"] == 2
        sent = upstream.requests[-1].body["messages"]
        assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]
        await rest.post("/ask/d", json={"prompt": "weather? " * 900, "tools": TOOLS})
        refused = await rest.post("/ask/d", json=asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        *(400, "context_length_exceeded"),
    )


async def test_a_call_that_was_cut_off_never_goes_upstream(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    cut = {"index": 0, **CALLS[0], "function": {"name": "look", "arguments": '{"at": '}}
    chunk = event({"choices": [{"index": 0, "delta": {"tool_calls": [cut]}}]})
    upstream.script(say("Look. ", chunk, finish="length"))
    wire = WIRES["rest"](server)
    ended = (await gathered(wire.ask("c", "weather?", tools=TOOLS)))[-1].turn
    assert ended is not None
    assert ended["finish_reason"] == "length"
    assert await _answer(wire.ask("c", "And?")) == "It is 18 C."
    sent = upstream.requests[-1].body["messages"]
    assert sent == [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "Look. "},
        {"role": "user", "content": "And?"},
    ]


async def test_a_conversation_goes_on_by_every_door_and_back(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    wire = await _called(server)
    joined = {"x-conversation-id": "c"}
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as rest:
        body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        told_ = await rest.post("/v1/chat/completions", json=body, headers=joined)
        assert told_.status_code == 200, told_.text
        body |= {"tools": TOOLS}
        called = await rest.post("/v1/chat/completions", json=body, headers=joined)
        assert called.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert await _answer(wire.ask("c", "", tool_results=RESULTS)) == "It is 18 C."
    assert await _answer(wire.ask("c", "Thanks")) == "It is 18 C."
    turn = (await gathered(wire.regenerate("c")))[-1].turn
    assert turn is not None
    assert turn["status"] == "completed"


@pytest.mark.parametrize("name", WIRES)
async def test_what_cannot_be_offered_is_refused(server: Fork, name: str) -> None:
    wire = WIRES[name](server)
    for asked in (
        {"tools": [{"type": "function", "function": {"name": "no name"}}]},
        {"tools": [{"type": "function"}]},
        {"tools": TOOLS * 129},
        {"tool_choice": "auto"} if name != "grpc" else {"tools": [{"type": "mcp"}]},
        {"response_format": {"type": "xml"}},
        {"reasoning_effort": "a\nb"},
    ):
        with pytest.raises(RefusedError, match="invalid_request"):
            await gathered(wire.ask("c", "Hi", **asked))


async def test_options_are_handed_to_the_upstream_as_they_came(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    wire = WIRES["rest"](server)
    asked = {
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }
    await gathered(wire.ask("c", "Hi", **asked))
    sent = upstream.requests[-1].body
    assert {name: sent[name] for name in asked} == asked


JOINED = {"x-conversation-id": "c"}
TIME = "2026-01-01T00:00:00Z"


def call(name: str | None = "look", id_: str = "call_a", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function", "id": id_, "function": {"name": name, "arguments": arguments}}


def telling(*deltas: Mapping[str, Any]) -> Behaviour:
    chunks = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return say(*chunks, finish="tool_calls")


async def takes_no_thoughts(exchange: Exchange) -> None:
    for place, one in enumerate(exchange.request.body["messages"]):
        if "reasoning_content" in one:
            why = f"'messages.{place}': property 'reasoning_content' is unsupported"
            return await fail(400, why)(exchange)
    return await say("It is 18 C.")(exchange)


@pytest.mark.parametrize("name", WIRES)
async def test_thoughts_are_kept_from_who_takes_none_back(
    server: Fork, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(telling({"reasoning": "Hm."}, {"tool_calls": [{"index": 0, **call()}]}))
    upstream.otherwise = takes_no_thoughts
    wire = WIRES[name](server)
    await gathered(wire.ask("c", "weather?", tools=TOOLS))
    results = [{"tool_call_id": "call_a", "content": "18 C"}]
    assert await _answer(wire.ask("c", "", tool_results=results)) == "It is 18 C."
    sent = upstream.requests[-1].body["messages"]
    assert [one["role"] for one in sent] == ["user", "assistant", "tool"]


async def test_nor_does_a_joined_client_s_conversation_end_there(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    upstream.script(telling({"reasoning": "Hm."}, {"tool_calls": [{"index": 0, **call()}]}))
    upstream.otherwise = takes_no_thoughts
    async with httpx2.AsyncClient(base_url=server.http, timeout=60, headers=JOINED) as rest:
        for one in (
            {"role": "user", "content": "weather?"},
            {"role": "tool", "tool_call_id": "call_a", "content": "18 C"},
        ):
            body = {"model": MODEL, "messages": [one], "tools": TOOLS}
            told = await rest.post("/v1/chat/completions", json=body)
            assert told.status_code == 200, told.text
    assert told.json()["choices"][0]["message"]["content"] == "It is 18 C."


async def test_a_call_that_names_nothing_never_goes_upstream(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    upstream.script(telling({"tool_calls": [{"index": 0, **call(None)}]}))
    upstream.otherwise = say("It is 18 C.")
    wire = WIRES["rest"](server)
    await gathered(wire.ask("c", "weather?", tools=TOOLS))
    results = [{"tool_call_id": "call_a", "content": "18 C"}]
    assert await _answer(wire.ask("c", "And?", tool_results=results)) == "It is 18 C."
    assert {one["role"] for one in upstream.requests[-1].body["messages"]} == {"user"}


@pytest.mark.parametrize("name", WIRES)
async def test_a_call_is_answered_however_long_its_id_is(
    server: Fork, upstream: ScriptedUpstream, name: str
) -> None:
    long = "call_" + "x" * 400
    upstream.script(telling({"tool_calls": [{"index": 0, **call(id_=long)}]}))
    upstream.otherwise = say("It is 18 C.")
    wire = WIRES[name](server)
    await gathered(wire.ask("c", "weather?", tools=TOOLS))
    results = [{"tool_call_id": long, "content": "18 C"}]
    assert await _answer(wire.ask("c", "", tool_results=results)) == "It is 18 C."


async def test_text_around_a_call_is_one_text_to_a_joined_client(
    server: Fork, upstream: ScriptedUpstream
) -> None:
    upstream.script(
        telling(
            {"content": "Looking. "},
            {"tool_calls": [{"index": 0, **call()}]},
            {"content": "Wait."},
        )
    )
    upstream.otherwise = say("It is 18 C.")
    said: list[Any] = [{"role": "user", "content": "weather?"}]
    body = {"model": MODEL, "messages": said, "tools": TOOLS}
    async with httpx2.AsyncClient(base_url=server.http, timeout=60, headers=JOINED) as rest:
        for _ in range(2):  # the second is told what is kept
            told = await rest.post(
                "/v1/chat/completions", json=body, headers={"idempotency-key": "k"}
            )
            answer = told.json()["choices"][0]["message"]
            assert answer["content"] == "Looking. Wait."
        said += [answer, {"role": "tool", "tool_call_id": "call_a", "content": "18 C"}]
        await rest.post("/v1/chat/completions", json=body)
        there = (await rest.get("/conversations/c")).json()
    assert there["message_count"] == 4  # nothing was kept a second time


@pytest.mark.parametrize(
    "part",
    [
        {"type": "function", "id": "call_a"},
        {"type": "function", "function": "look"},
        {"type": "function", "function": {}},
        {"type": "function", "id": ["x"], "function": {"name": "look", "arguments": "{}"}},
        {"type": "custom", "custom": {"name": "look", "input": ""}},
        {"type": "custom"},
        {"type": "tool_result", "tool_call_id": ["x"], "text": "18 C"},
        {"type": "reasoning"},
        {"type": "refusal", "refusal": 5},
        {"type": "hologram", "of": [1]},
    ],
)
@pytest.mark.parametrize("role", ["assistant", "tool"])
async def test_what_a_file_has_of_tools_breaks_nothing(
    server: Fork, upstream: ScriptedUpstream, part: dict[str, Any], role: str
) -> None:
    upstream.otherwise = say("It is 18 C.")
    result = {"type": "tool_result", "tool_call_id": "other", "text": ""}
    messages = [
        {"id": "m1", "role": "user", "content": "Hi", "created_at": TIME},
        {
            "id": "m2",
            "parent_id": "m1",
            "role": role,
            "content": [part, result],
            "created_at": TIME,
        },
    ]
    kept = {"id": "c", "title": "", "created_at": TIME, "updated_at": TIME, "head_id": "m2"}
    file = {"format": "trialogue", "version": 1, "conversations": [kept | {"messages": messages}]}
    async with httpx2.AsyncClient(base_url=server.http, timeout=60) as rest:
        assert (await rest.post("/conversations/import", json=file)).json()["imported"] == 1
        asked = await rest.post("/ask/c", json={"prompt": "And?"})
        assert asked.json().get("status") == "completed", asked.text
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Well?"}]}
        joined = await rest.post("/v1/chat/completions", json=body, headers=JOINED)
        assert joined.status_code == 200, joined.text
        assert (await rest.get("/conversations/c/messages")).status_code == 200
        for kind in ("json", "jsonl", "markdown"):
            address = f"/conversations/c/export?format={kind}"
            assert (await rest.get(address)).status_code == 200

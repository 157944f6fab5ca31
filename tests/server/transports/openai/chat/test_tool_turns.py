"""A conversation with calls of tools goes on by every door, at an upstream strict about pairs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.upstream.answering import Answering
from server.upstream.pool import PoolMember
from tests.server.transports.openai.chat.joined_talk import IN, user
from tests.server.transports.openai.openai_client import Pair, events_of, passage, serving
from tests.support.upstream_script import MODEL, Exchange, event, fail, say
from tests.support.upstream_server import ScriptedUpstream

CALLS = [
    {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": a}}
    for n, a in enumerate(("{}", '{"x": 1}'))
]
#: an answer that calls two tools
CALLING = say(
    event({"choices": [{"index": 0, "delta": {"tool_calls": CALLS}, "finish_reason": None}]}),
    finish="tool_calls",
)


def result(number: int, text: str = "18 C") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}


def unpaired(messages: list[dict[str, Any]]) -> str | None:
    """Say what OpenAI would refuse: a call without results behind it, or a result without one."""
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "messages with role 'tool' must be a response to a preceding message"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return "'tool_calls' must be followed by tool messages"
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    return "'tool_calls' must be followed by tool messages" if open_calls else None


async def strict(exchange: Exchange) -> None:
    error = unpaired(exchange.request.body["messages"])
    await (say("Good.") if error is None else fail(400, error))(exchange)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        upstream.otherwise = strict
        speaker = passage(upstream)
        member = PoolMember("strict", Answering(speaker), speaker)
        async with serving(tmp_path, [member]) as served:
            yield served, upstream


async def test_a_refusal_is_what_an_ask_is_answered(pair: Pair) -> None:
    served, upstream = pair
    pieces = [
        event({"choices": [{"index": 0, "delta": {"refusal": text}, "finish_reason": None}]})
        for text in ("I can't ", "do that.")
    ]
    upstream.script(say(*pieces))
    turn = (await served.client.post("/ask/refused", json={"prompt": "harm"})).json()
    said = [{"type": "refusal", "refusal": "I can't do that."}]
    assert (turn["status"], turn["answer"], turn["parts"]) == ("completed", "", said)
    page = (await served.client.get("/conversations/refused/messages")).json()["data"]
    assert (page[-1]["content"], page[-1]["parts"]) == (said, said)
    assert page[-1]["tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_that_are_told_again_have_their_text_as_a_string(
    pair: Pair, stream: bool
) -> None:
    served, upstream = pair
    calls = event({"choices": [{"index": 0, "delta": {"tool_calls": CALLS[:1]}}]})
    upstream.script(say("I look.", calls, finish="tool_calls"))
    headers = {**IN, "idempotency-key": "k"}
    body = {"model": MODEL, "messages": [user("weather?")], "stream": stream}
    for _ in range(2):
        answer = await served.client.post("/v1/chat/completions", json=body, headers=headers)
        if stream:
            deltas = [one["choices"][0]["delta"] for one in events_of(answer.content)[:-1]]
            assert "".join(delta.get("content", "") for delta in deltas) == "I look."
        else:
            assert answer.json()["choices"][0]["message"]["content"] == "I look."
    assert len(upstream.requests) == 1

"""What tests of OpenAI's stateful API say again and again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai

from tests.support.live import Process
from tests.support.upstream_script import MODEL, Behaviour, event, say
from tests.support.upstream_server import ScriptedUpstream

TOOLS = [
    {
        "type": "function",
        "name": "look",
        "parameters": {"type": "object", "properties": {}},
        "strict": None,
        "description": None,
    }
]
CALL = {"id": "call_a", "function": {"name": "look", "arguments": "{}"}}
RESPONSES, CONVERSATIONS = "/v1/responses", "/v1/conversations"


def scripted_env(upstream: ScriptedUpstream, **more: str) -> dict[str, str]:
    own = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k", "TRIALOGUE_MODEL": MODEL}
    return {**own, **more}


def client_of(server: Process, key: str = "k") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.http}/v1", api_key=key, max_retries=0)


def asked(said: Any = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": said, **more}


def sent(upstream: ScriptedUpstream, number: int = -1) -> list[dict[str, Any]]:
    """Return the messages that an upstream was sent."""
    messages: list[dict[str, Any]] = upstream.requests[number].body["messages"]
    return messages


def roles(upstream: ScriptedUpstream, number: int = -1) -> list[str]:
    return [one["role"] for one in sent(upstream, number)]


async def told(stream: AsyncIterator[Any]) -> list[dict[str, Any]]:
    """Return the events that the SDK reads, as JSON."""
    return [event.to_dict() async for event in stream]


async def streamed(
    http: httpx2.AsyncClient, path: str = RESPONSES, body: Any = None, **more: Any
) -> list[dict[str, Any]]:
    """Return the events of a stream, read without the SDK."""
    method = "GET" if body is None else "POST"
    given = {} if body is None else {"json": {**body, "stream": True}}
    async with http.stream(method, path, **given, **more) as answer:
        text = (await answer.aread()).decode()
    assert answer.status_code == 200, text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_in(text)


def events_in(text: str) -> list[dict[str, Any]]:
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    read = []
    for one in events:
        name, data = one.split("\n")
        read.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {read[-1]['type']}"
    return read


def error_of(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    """Return status, code and param of a refusal, which has OpenAI's shape."""
    body = answer.json()
    assert body.keys() == {"error"}, body
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return answer.status_code, body["error"]["code"], body["error"]["param"]


def calling() -> Behaviour:
    """Return an answer of three parts: thought, text and a call."""
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": "Let me see."},
        {"content": "Looking."},
        {"tool_calls": [{"index": 0, "type": "function", **CALL}]},
    ]
    chunks = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return say(*chunks, finish="tool_calls")

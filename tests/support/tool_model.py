"""A model that only chats and calls the tools it is offered: clients with tools are tried with it.

    python -m tests.support.tool_model      prints its base URL, and serves until it is ended

It thinks before it calls, as models that reason do, and is as strict as OpenAI's about calls and
their results. `call NAME {...}` in a question calls that tool so; "weather" calls the first of all.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from server.upstream.local.json_schema.generate import fitting
from server.upstream.local.json_schema.vocabulary import words_of
from tests.support.upstream_script import MODEL, Exchange, Step, event, fail, say
from tests.support.upstream_server import ScriptedUpstream

_ORDER: Final = re.compile(r"\bcall (\w+) (?=\{)")
_USAGE: Final = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}

Messages = Sequence[Mapping[str, Any]]


def unfit(messages: Messages) -> str | None:
    """Say what OpenAI would refuse: a call without its result, or a result without its call."""
    waiting: set[str] = set()
    for one in messages:
        if one["role"] == "tool":
            if one["tool_call_id"] not in waiting:
                return "a result without a call"
            waiting.discard(one["tool_call_id"])
            continue
        if waiting:
            return "a call without a result"
        waiting = {call["id"] for call in one.get("tool_calls") or ()}
    return "a call without a result" if waiting else None


def doubled(messages: Messages) -> str | None:
    """Say what the strictest templates refuse besides: two users in a row."""
    roles = pairwise(one["role"] for one in messages)
    return "two users in a row" if ("user", "user") in roles else None


async def call_or_answer(exchange: Exchange) -> None:
    """Call what the user asks for, tell what tools have said, or say what was heard."""
    body = exchange.request.body
    if not exchange.chat:
        await fail(404, "this server only chats")(exchange)
    elif (why := unfit(body["messages"])) is not None:
        await fail(400, why)(exchange)
    elif calls := _calls(body):
        await say(*_called(calls), finish="tool_calls", usage=_USAGE)(exchange)
    else:
        words = re.findall(r"\s*\S+", _answer(body))
        await say(*words, usage=_USAGE)(exchange)


def _calls(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages, choice = body["messages"], body.get("tool_choice") or "auto"
    functions = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    tools = {function["name"]: function for function in functions}
    if not tools or choice == "none" or messages[-1]["role"] != "user":
        return []
    said = _text(messages[-1])
    wanted = [
        (order[1], json.JSONDecoder().raw_decode(said, order.end())[0])
        for order in _ORDER.finditer(said)
        if order[1] in tools
    ]
    forced = choice["function"]["name"] if isinstance(choice, Mapping) else None
    if not wanted and (forced or choice == "required" or "weather" in said.lower()):
        tool = tools[forced or next(iter(tools))]
        schema = tool.get("parameters") or {"type": "object"}
        wanted = [(tool["name"], fitting(schema, words_of([said], said)))]
    return [
        {"id": f"call_{len(messages)}_{place}", "name": name, "arguments": json.dumps(arguments)}
        for place, (name, arguments) in enumerate(wanted)
    ]


def _called(calls: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Return the pieces that a model streams which thinks, and then calls."""
    deltas: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in ("I look ", "it up.")]
    for place, call in enumerate(calls):
        begun = {"name": call["name"], "arguments": ""}
        first = {"index": place, "id": call["id"], "type": "function", "function": begun}
        middle = len(call["arguments"]) // 2
        pieces = call["arguments"][:middle], call["arguments"][middle:]
        more = [{"index": place, "function": {"arguments": piece}} for piece in pieces]
        deltas += [{"tool_calls": [one]} for one in (first, *more)]
    return [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]


def _answer(body: Mapping[str, Any]) -> str:
    messages = body["messages"]
    turn = sum(one["role"] == "user" for one in messages)
    said = _text(messages[-1])
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return json.dumps(fitting(form["json_schema"]["schema"], words_of([said], said)))
    if messages[-1]["role"] != "tool":
        return f"Turn {turn}: you said {said}"
    newest = next(at for at, one in enumerate(messages[::-1]) if one["role"] == "user")
    results = [_text(one) for one in messages[-newest:] if one["role"] == "tool"]
    return f"Turn {turn}: the tools said {' and '.join(results)}"


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


async def main() -> None:
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        upstream.otherwise = call_or_answer
        print(upstream.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

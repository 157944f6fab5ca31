"""Sees that no call of a tool is sent without its result, and no result without its call.

OpenAI refuses either with 400, and so does the chat template of many a model.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import orjson

from server.openai_protocol.messages import (
    CALLS,
    answered_call,
    called,
    calls_in,
    results_in,
)
from storage.model import Content, PromptMessage, Role

#: The result of a call that nobody gave one.
NOT_ANSWERED = "This call was not answered."


def paired(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return messages in which every call stands before its result; unchanged ones are the same.

    A call without one gets a result that says so, but for one that was cut off in its arguments:
    that is left out, as is one that names nothing, and a result without a call.
    """
    told: list[PromptMessage] = []
    place = 0
    while place < len(messages):
        one, place = messages[place], place + 1
        calls = calls_in(one.content) if one.role is Role.ASSISTANT else []
        if not calls:
            told += [] if one.role is Role.TOOL else [one]
            continue
        # An upstream may give two calls one id: their results come in the order of the calls.
        results: defaultdict[str, deque[PromptMessage]] = defaultdict(deque)
        while place < len(messages) and messages[place].role is Role.TOOL:
            results[answered_call(messages[place].content)].append(messages[place])
            place += 1
        named = filter(_is_named, calls)
        sent = [call for call in named if results[called(call)] or _is_whole(call)]
        told += [one] if len(sent) == len(calls) else _with_calls(one, sent)
        told += [_next(results[called(call)]) or _not_answered(call) for call in sent]
    return told


def spoken(content: Content) -> Content:
    """Return what is sent of an answer: neither thoughts, nor tools that the server ran itself."""
    if isinstance(content, str):
        return content
    ran = results_in(content)
    sent = [
        part
        for part in content
        if part.get("type") not in ("reasoning", "tool_result", "erased")
        and not (ran and part.get("type") in CALLS and str(part.get("id") or "") in ran)
    ]
    return content if len(sent) == len(content) else _as_text(sent)


def unrolled(message: PromptMessage) -> list[PromptMessage]:
    """Return an answer in which tools ran as the messages that it was: each call before its result.

    What needs no change is the same.
    """
    if isinstance(message.content, str) or not results_in(message.content):
        return [message]
    told: list[PromptMessage] = []
    for is_result, run in groupby(message.content, key=lambda part: part["type"] == "tool_result"):
        parts = [*run]
        if not is_result:
            told.append(replace(message, content=_as_text(parts)))
            continue
        for part in parts:
            answers = {"tool_call_id": str(part.get("tool_call_id") or "")}
            said = {"type": "text", "text": str(part.get("text") or ""), **answers}
            told.append(PromptMessage(Role.TOOL, [said]))
    return told


def _as_text(parts: Sequence[Mapping[str, Any]]) -> Content:
    if all(part.get("type") == "text" and part.keys() == {"type", "text"} for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _with_calls(one: PromptMessage, calls: Sequence[Mapping[str, Any]]) -> list[PromptMessage]:
    """Return a message with these of its calls alone; none where nothing else is in it."""
    sent = set(map(id, calls))
    parts = (part for part in one.content if isinstance(part, Mapping))
    left = _as_text([p for p in parts if p.get("type") not in CALLS or id(p) in sent])
    return [replace(one, content=left)] if left else []


def _next(results: deque[PromptMessage]) -> PromptMessage | None:
    return results.popleft() if results else None


def _is_named(call: Mapping[str, Any]) -> bool:
    """Say whether a call says what it calls: an upstream, or a file, may leave that out."""
    about = call.get(call["type"])
    name = about.get("name") if isinstance(about, Mapping) else None
    return bool(name and isinstance(name, str)) and (call["type"] == "function" or "id" in call)


def _is_whole(call: Mapping[str, Any]) -> bool:
    """Say whether a call was not cut off in its arguments; what is no JSON by its kind is whole."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    if not isinstance(arguments, str):
        return True
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def _not_answered(call: Mapping[str, Any]) -> PromptMessage:
    named = {"tool_call_id": call["id"]} if call.get("id") else {"name": called(call)}
    return PromptMessage(Role.TOOL, [{"type": "text", "text": NOT_ANSWERED, **named}])

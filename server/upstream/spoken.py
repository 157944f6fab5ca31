"""Chat messages in OpenAI's shape, to and from the content that a conversation keeps of them.

What is more than text is kept as parts: a call of a tool as OpenAI's own tool-call object; what a
tool answered as text parts that name the call, `{"type": "text", "text", "tool_call_id"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.upstream.port import PromptMessage
from storage.model import Content, Role

_CALLS = ("function", "custom")
_ROLES = {"developer": Role.SYSTEM, "function": Role.TOOL}


def role_of(message: Mapping[str, Any]) -> Role:
    """Return the role under which a chat message is kept."""
    role = message["role"]
    return _ROLES.get(role) or Role(role)


def content_of(message: Mapping[str, Any]) -> Content:
    """Return what is kept of a chat message: its text, or parts where it is more."""
    said = message.get("content") or ""
    parts = [{"type": "text", "text": said}] if isinstance(said, str) else list(said)
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    answered = message.get("tool_call_id") or message.get("name")
    if role_of(message) is Role.TOOL and answered:
        return [{**part, "tool_call_id": answered} for part in parts]
    calls = list(message.get("tool_calls") or ())
    if message.get("function_call"):
        calls.append({"type": "function", "function": message["function_call"]})
    if calls and said == "":
        parts = parts[1:]
    match [*parts, *calls]:
        case [{"type": "text", "text": str(text), **more}] if not more:
            return text
        case whole:
            return whole


def message_of(message: PromptMessage) -> dict[str, Any]:
    """Return a chat message as OpenAI's API takes it."""
    told: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.name is not None:
        told["name"] = message.name
    if isinstance(message.content, str):
        return told
    if message.role is Role.TOOL:
        return _answer_of_a_tool(told, message.content)
    if message.role is not Role.ASSISTANT:
        return told
    calls = [dict(part) for part in message.content if part.get("type") in _CALLS]
    parts = [dict(part) for part in message.content if part.get("type") not in _CALLS]
    told["content"] = parts or None
    called = [call for call in calls if call.get("id")]
    if called:
        told["tool_calls"] = called
    elif calls:
        told["function_call"] = calls[0]["function"]
    return told


def is_answer_to_a_call(content: Content) -> bool:
    """Say whether a tool's message names the call that it answers, so that it can be sent."""
    return not isinstance(content, str) and any(part.get("tool_call_id") for part in content)


def _answer_of_a_tool(told: dict[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bare = [{k: v for k, v in part.items() if k != "tool_call_id"} for part in parts]
    told["tool_call_id"] = next(
        (part["tool_call_id"] for part in parts if "tool_call_id" in part), ""
    )
    match bare:
        case [{"type": "text", "text": str(text)}]:
            told["content"] = text
        case _:
            told["content"] = bare
    return told

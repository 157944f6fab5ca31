"""Chat messages in OpenAI's shape, to and from the content that a conversation keeps of them.

What is more than text is kept as parts: a call of a tool as OpenAI's own tool-call object, one of a
function without an id; what a tool answered as text parts that name the call, `{"type": "text",
"text", "tool_call_id"}`, what a function did as such that name the function, in `name`; and what a
model thought as `{"type": "reasoning", "text"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from storage.model import Content, PromptMessage, Role

CALLS = ("function", "custom")
#: How the ids begin of calls that the server runs itself, and of those that are to be approved
#: first. Upstreams are sent back the id that they gave, which is behind it.
RUN_HERE, TO_APPROVE = "mcp_", "mcpr_"
#: What is kept, and sent, as the result of a call that somebody has approved.
APPROVED = "The call was approved."
#: what stands between texts that were joined
BETWEEN = "\n\n"
#: what stands in a field of its own, or is not sent at all
_NOT_SAID = (*CALLS, "refusal", "reasoning", "tool_result", "erased")
_ROLES = {"developer": Role.SYSTEM, "function": Role.TOOL}
#: what names what a message of a tool answers: a call by its id, or a function
_ANSWERED = ("tool_call_id", "name")


def role_of(message: Mapping[str, Any]) -> Role:
    """Return the role under which a chat message is kept."""
    role = message["role"]
    return _ROLES.get(role) or Role(role)


def content_of(message: Mapping[str, Any]) -> Content:
    """Return what is kept of a chat message: its text, or parts where it is more."""
    said = message.get("content") or ""
    parts = [{"type": "text", "text": said}] if isinstance(said, str) else list(said)
    if role_of(message) is Role.TOOL:
        named = [name for name in _ANSWERED if message.get(name)][:1]
        parts = [{**part, name: message[name]} for part in parts for name in named] or parts
    more = [*_refusal(message, parts), *_calls(message)]
    if more and said == "":
        parts = []
    match [*parts, *more]:
        case [{"type": "text", "text": str(text), **rest}] if not rest:
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
    calls = [_sent_back(part) for part in calls_in(message.content)]
    refused = [dict(part) for part in message.content if part.get("type") == "refusal"]
    said = [dict(part) for part in message.content if part.get("type") not in _NOT_SAID]
    thought = [str(part.get("text") or "") for part in message.content if _is_thought(part)]
    field = {"reasoning_content": "".join(thought)} if thought else {}
    return told | _said(said, refused) | _called(calls) | field


def without_thoughts(message: PromptMessage) -> PromptMessage:
    """Return a message without what a model thought; one that needs no change is the same."""
    if isinstance(message.content, str):
        return message
    left = [part for part in message.content if not _is_thought(part)]
    return message if len(left) == len(message.content) else replace(message, content=left)


def without_system(messages: Sequence[PromptMessage]) -> Sequence[PromptMessage]:
    """Return messages with what a system message said in the user's first; the same without one."""
    match messages:
        case [PromptMessage(role=Role.SYSTEM) as system, PromptMessage(role=Role.USER) as user, *_]:
            return (replace(user, content=both(system.content, user.content)), *messages[2:])
        case _:
            return messages


def both(one: Content, other: Content) -> Content:
    """Return two contents as one."""
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}{BETWEEN}{other}" if one and other else one or other
    return [*_parts(one), *_parts(other)]


def _parts(content: Content) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _is_thought(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "reasoning"


def calls_in(content: Content) -> list[Mapping[str, Any]]:
    """Return the calls of tools in what an assistant said."""
    if isinstance(content, str):
        return []
    return [part for part in content if part.get("type") in CALLS]


def results_in(content: Content) -> set[str]:
    """Return the ids of the calls whose results an assistant's answer has, which ran meanwhile."""
    if isinstance(content, str):
        return set()
    ran = (part for part in content if part.get("type") == "tool_result")
    return {str(part.get("tool_call_id") or "") for part in ran}


def called(call: Mapping[str, Any]) -> str:
    """Return what names a call: its id, or the function of one without."""
    function = call.get("function")
    named = function.get("name") if isinstance(function, Mapping) else None
    return str(call.get("id") or named or "")


def answered_call(content: Content) -> str:
    """Return what names the call that a tool's message answers; empty where nothing does."""
    if isinstance(content, str):
        return ""
    named = (part.get(name) for part in content for name in _ANSWERED)
    return str(next((one for one in named if one), ""))


def is_answer_to_a_call(content: Content) -> bool:
    """Say whether a tool's message names the call that it answers, so that it can be sent."""
    return bool(answered_call(content))


def _sent_back(call: Mapping[str, Any]) -> dict[str, Any]:
    return {**call, "id": theirs(id_)} if isinstance(id_ := call.get("id"), str) else dict(call)


def theirs(call_id: str) -> str:
    """Return the id that an upstream gave a call."""
    return call_id.removeprefix(RUN_HERE).removeprefix(TO_APPROVE)


def _refusal(
    message: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the part that a refusal is, unless it is there among the parts already."""
    refused = message.get("refusal")
    if not refused or any(part.get("type") == "refusal" for part in parts):
        return []
    return [{"type": "refusal", "refusal": refused}]


def _calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    calls = [
        {"type": "function", **{name: value for name, value in call.items() if name != "index"}}
        for call in message.get("tool_calls") or ()
    ]
    if message.get("function_call"):
        calls.append({"type": "function", "function": message["function_call"]})
    return calls


def _said(parts: list[dict[str, Any]], refused: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what an assistant said, one text as a string: OpenAI takes a refusal in a field of
    its own always.
    """
    told = "".join(str(part.get("refusal") or "") for part in refused)
    texts = [part for part in parts if part.get("text")] if refused else parts
    field = {"refusal": told} if refused else {}
    match texts:
        case [{"type": "text", "text": str(text), **rest}] if not rest:
            return {"content": text, **field}
        case _:
            return {"content": texts or None, **field}


def _called(calls: list[dict[str, Any]]) -> dict[str, Any]:
    named = [call for call in calls if call.get("id")]
    if named:
        return {"tool_calls": named}
    functions = [call["function"] for call in calls if "function" in call]
    return {"function_call": functions[0]} if functions else {}


def _answer_of_a_tool(told: dict[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bare = [{k: v for k, v in part.items() if k not in _ANSWERED} for part in parts]
    match bare:
        case [{"type": "text", "text": str(text)}]:
            told["content"] = text
        case _:
            told["content"] = bare
    ids = (str(part["tool_call_id"]) for part in parts if part.get("tool_call_id"))
    names = (part["name"] for part in parts if part.get("name"))
    if (call := next(ids, None)) is None and (function := next(names, None)) is not None:
        return told | {"role": "function", "name": function}
    return told | {"tool_call_id": theirs(call or "")}

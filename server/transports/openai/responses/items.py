"""Messages and answers as items of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.openai_protocol.messages import answered_call
from server.transports.openai.responses.ids import is_own_result, item_id, part_id, served
from server.transports.openai.responses.namespaces import Spaces, named, spaces_of
from storage.model import Content, Message, Role, Turn, answer_of
from storage.parts import Kind, Part, is_erased, parts_of

COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"
IN_PROGRESS: Final = "in_progress"
_CUSTOM_RESULT: Final = "custom_tool_call_output"
_NO_SPACES: Final[Spaces] = {}


def text_part(said: str) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def content_part(kind: Kind, said: str) -> dict[str, Any]:
    """Return the one part of the content of an item that has any."""
    match kind:
        case Kind.REFUSAL:
            return {"type": "refusal", "refusal": said}
        case Kind.REASONING:
            return {"type": "reasoning_text", "text": said}
        case _:
            return text_part(said)


def answered(
    part: Part,
    said: str | None,
    id_: str,
    status: str,
    spaces: Spaces = _NO_SPACES,
    result: str | None = None,
) -> dict[str, Any]:
    """Return the item that a part of an answer is; `said` is None before it has begun.

    What a tool that the server runs has said is its call's `result`.
    """
    if (prefix := served(part)) is not None:
        return _served(prefix, part, said or "", id_, status, result)
    shown = {"id": id_, "status": status}
    content = [] if said is None else [content_part(part.kind, said)]
    match part.kind:
        case Kind.REASONING:
            return {"type": "reasoning", **shown, "summary": [], "content": content}
        case Kind.TOOL_CALL:
            called = {"call_id": part.id or part.name or "", **named(part.name, spaces)}
            return {"type": "function_call", **shown, **called, "arguments": said or ""}
        case Kind.CUSTOM_TOOL_CALL:
            called = {"call_id": part.id or part.name or "", **named(part.name, spaces)}
            return {"type": "custom_tool_call", **shown, **called, "input": said or ""}
        case Kind.TOOL_RESULT:
            call = {"call_id": part.id or ""}
            return {"type": "function_call_output", **shown, **call, "output": said or ""}
        case _:
            return {"type": "message", **shown, "role": "assistant", "content": content}


def failed(result: str | None) -> bool:
    """Say whether a result tells that its tool failed."""
    return result is not None and result.startswith("Error: ")


def _served(
    prefix: str, part: Part, arguments: str, id_: str, status: str, result: str | None
) -> dict[str, Any]:
    label, _, name = (part.name or "").partition("__")
    shown = {"id": id_, "server_label": label, "name": name, "arguments": arguments}
    if prefix == "mcpr":
        return {"type": "mcp_approval_request", **shown}
    ended = (
        {"output": None, "error": result} if failed(result) else {"output": result, "error": None}
    )
    return {"type": "mcp_call", **shown, "status": status, **ended, "approval_request_id": None}


def output_of(turn: Turn, answer_id: str, last: str) -> list[dict[str, Any]]:
    """Return the items of an answer, of which the last has its own status."""
    return _answer(answer_id, turn.content, spaces_in(turn), last)


def spaces_in(turn: Turn) -> Spaces:
    """Return the namespaces of the tools that a turn was asked with."""
    return spaces_of((turn.record or {}).get("tools") or ())


def _answer(
    message_id: str, content: Content, spaces: Spaces, last: str = COMPLETED
) -> list[dict[str, Any]]:
    parts = parts_of(content)
    results = {
        part.id: (place, said) for place, (part, said) in enumerate(parts) if is_own_result(part)
    }
    items = []
    for place, (part, said) in enumerate(parts):
        if part.kind is Kind.ERASED or is_own_result(part):
            continue
        # A call of ours is over with its result.
        end, result = (
            results.get(part.id, (len(parts) - 1, None)) if served(part) else (place, None)
        )
        status = last if end == len(parts) - 1 else COMPLETED
        id_ = part_id(message_id, part, place)
        items.append(answered(part, said, id_, status, spaces, result))
    return items


def items_of(message: Message, spaces: Spaces = _NO_SPACES) -> list[dict[str, Any]]:
    """Return the items that a message is: of an answer each part is one."""
    own = message.item or {}
    match message.role:
        case Role.ASSISTANT:
            items = _answer(message.id, message.content, spaces)
            phase = {"phase": own["phase"]} if "phase" in own else {}
            return [one | phase if one["type"] == "message" else one for one in items]
        case _ if is_erased(message.content):
            return []
        case Role.TOOL:
            return [_result(message, own)]
        case _ if own.get("type") == "compaction":
            return [{**own, "id": item_id(message.id, "cmp")}]
        case _:
            shown = {"type": "message", "id": item_id(message.id), "status": COMPLETED}
            role = own.get("role") or message.role.value
            return [{**shown, "role": role, "content": _heard(message.content)}]


def _result(message: Message, own: Mapping[str, Any]) -> dict[str, Any]:
    custom = own.get("type") == _CUSTOM_RESULT
    kind, prefix = (_CUSTOM_RESULT, "ctco") if custom else ("function_call_output", "fco")
    text_only = isinstance(message.content, str) or all(
        part.get("type") == "text" for part in message.content
    )
    return {
        "type": kind,
        "id": item_id(message.id, prefix),
        "status": COMPLETED,
        "call_id": answered_call(message.content),
        "output": answer_of(message.content) if text_only else _heard(message.content),
    }


def _heard(content: Content) -> list[dict[str, Any]]:
    """Return what a user or a tool said, in parts."""
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [_heard_part(part) for part in content]


def _heard_part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part:
        case {"type": "image_url", "image_url": Mapping() as image}:
            detail = image.get("detail") or "auto"
            url = image.get("url")
            return {"type": "input_image", "image_url": url, "file_id": None, "detail": detail}
        case {"type": "file", "file": Mapping() as file}:
            return {"type": "input_file", **file}
        case {"type": "input_audio"}:
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
        case _:
            return {"type": "input_text", "text": str(part.get("text") or "")}

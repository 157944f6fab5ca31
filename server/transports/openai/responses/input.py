"""The input of a response: items as messages that are kept, each with what it says beside."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from server.core.prompt.compose import SUMMARY_HEADING
from server.core.turns.placement import Utterance
from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.transports.openai.responses.namespaces import joined
from storage.model import Content, Role

REFERENCE: Final = "item_reference"
#: A decision; who finds things puts a call's result in its place, which only it knows.
APPROVAL: Final = "mcp_approval_response"
#: Says no words: what is offered besides `tools`, see there.
ADDITIONAL: Final = "additional_tools"
_ROLES: Final = ("user", "assistant", "system", "developer")
_ITEMS: Final = (
    *("message", "function_call", "function_call_output", "custom_tool_call"),
    *("custom_tool_call_output", "reasoning", "compaction", REFERENCE),
    *("mcp_call", "mcp_list_tools", "mcp_approval_request", APPROVAL, ADDITIONAL),
)
_PARTS: Final = (
    *("input_text", "input_image", "input_file", "input_audio", "output_text", "text"),
    *("refusal", "summary_text", "reasoning_text"),
)
_DETAILS: Final = ("auto", "low", "high", "original")
_FILE: Final = ("file_id", "file_data", "filename")
#: Begins what a compaction is kept in, which is ours to read.
_OURS: Final = "trialogue1:"

Parts = list[Mapping[str, Any]]


def input_of(asked: Fields, name: str = "input") -> list[Fields]:
    """Return the items of an input; a text is one. Raises RefusedError."""
    given = asked.raw(name)
    if isinstance(given, str):
        return [Fields({"type": "message", "role": "user", "content": given}, name)]
    if given is not None and not isinstance(given, list):
        raise errors.mistyped(asked.path(name), "one of a string or array of items", given)
    return asked.parts(name) or []


def kind_of(item: Fields) -> str:
    """Return the type of an item, which a message need not say."""
    return item.one_of("type", _ITEMS) or "message"


def utterances(items: Sequence[Fields]) -> tuple[Utterance, ...]:
    """Return the messages that items are: calls join the assistant's words before them, and what
    was thought joins what it led to. Raises RefusedError.
    """
    reader = _Reader()
    for item in items:
        reader.take(item)
    return tuple(reader.said)


def compacted(summary: str) -> str:
    """Return a summary as a compaction item carries it."""
    return _OURS + base64.b64encode(orjson.dumps({"summary": summary})).decode()


class _Reader:
    def __init__(self) -> None:
        self.said: list[Utterance] = []
        self._thought: Parts = []

    def take(self, item: Fields) -> None:
        match kind_of(item):
            case "message":
                self._message(item)
            case "function_call":
                named = {"name": _name(item), "arguments": _text(item, "arguments")}
                self._call({"type": "function", "id": _text(item, "call_id"), "function": named})
            case "custom_tool_call":
                named = {"name": _name(item), "input": _text(item, "input")}
                self._call({"type": "custom", "id": _text(item, "call_id"), "custom": named})
            case "reasoning":
                if thought := _thought(item):
                    self._thought.append({"type": "reasoning", "text": thought})
            case "compaction":
                self._add(Utterance(Role.SYSTEM, *_compaction(item)))
            case "function_call_output" | "custom_tool_call_output" as kind:
                self._add(_result(item, kind))
            case "mcp_approval_request":
                tool = f"{_text(item, 'server_label')}__{_text(item, 'name')}"
                named = {"name": tool, "arguments": _text(item, "arguments")}
                self._call({"type": "function", "id": _text(item, "id"), "function": named})
            case "mcp_call" | "mcp_list_tools":
                pass  # what ran in an answer is not sent again

    def _message(self, item: Fields) -> None:
        item.required("role")
        role = item.one_of("role", _ROLES) or "user"
        content = _content(item, "content")
        if role != "assistant":
            own = {"role": role} if role == "developer" else None
            kept = Role.USER if role == "user" else Role.SYSTEM
            self._add(Utterance(kept, content, own))
            return
        phase = item.text("phase")
        said = _of_assistant(content)
        if self._thought:
            parts: Parts = [{"type": "text", "text": said}] if isinstance(said, str) else [*said]
            said, self._thought = [*self._thought, *parts], []
        self.said.append(Utterance(Role.ASSISTANT, said, {"phase": phase} if phase else None))

    def _call(self, call: Mapping[str, Any]) -> None:
        before = self.said[-1] if self.said and self.said[-1].role is Role.ASSISTANT else None
        parts: Parts = []
        if before is not None:
            self.said.pop()
            text = before.content
            parts = [{"type": "text", "text": text}] if isinstance(text, str) else [*text]
        whole = [*parts, *self._thought, call]
        self.said.append(Utterance(Role.ASSISTANT, whole, before.item if before else None))
        self._thought = []

    def _add(self, said: Utterance) -> None:
        self._thought = []  # it led to nothing
        self.said.append(said)


def _name(item: Fields) -> str:
    return joined(item.text("namespace"), _text(item, "name"))


def _content(item: Fields, name: str) -> Content:
    """Return what is said in a text or in parts, in chat's shape."""
    given = item.raw(name)
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        item.required(name)
        raise errors.mistyped(item.path(name), "one of a string or array of objects", given)
    parts = [_part(part) for part in item.parts(name) or ()] if given else []
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": str(text)}]:
            return text
    return parts


def _part(part: Fields) -> dict[str, Any]:
    part.required("type")
    match part.one_of("type", _PARTS):
        case "input_image":
            return _image(part)
        case "input_file":
            if part.text("file_url"):
                raise errors.unsupported(part.path("file_url"))
            return {"type": "file", "file": {k: part.text(k) for k in _FILE if part.text(k)}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.required("input_audio")}
        case "refusal":
            return {"type": "refusal", "refusal": _text(part, "refusal")}
        case _:
            return {"type": "text", "text": _text(part, "text")}


def _image(part: Fields) -> dict[str, Any]:
    if part.text("file_id"):
        raise errors.unsupported(part.path("file_id"))
    part.required("image_url")
    detail = part.one_of("detail", _DETAILS) or "auto"
    return {"type": "image_url", "image_url": {"url": part.text("image_url"), "detail": detail}}


def _of_assistant(content: Content) -> Content:
    """Return what an assistant said, its texts as one."""
    if isinstance(content, str):
        return content
    text = "".join(str(part.get("text") or "") for part in content if part["type"] == "text")
    others: Parts = [part for part in content if part["type"] != "text"]
    return [*([{"type": "text", "text": text}] if text else []), *others] if others else text


def _result(item: Fields, kind: str) -> Utterance:
    item.required("output")
    output, call = _content(item, "output"), _text(item, "call_id")
    parts = [{"type": "text", "text": output}] if isinstance(output, str) else output
    own = {"type": kind} if kind == "custom_tool_call_output" else None
    return Utterance(Role.TOOL, [{**part, "tool_call_id": call} for part in parts], own)


def _thought(item: Fields) -> str:
    """Return what was thought: its own words, else what was told of them."""
    for name in ("content", "summary"):
        said = item.raw(name)
        if isinstance(said, list) and said:
            parts = item.parts(name) or ()
            if text := "\n\n".join(part.text("text") or "" for part in parts):
                return text
    return ""


def _compaction(item: Fields) -> tuple[str, Mapping[str, Any]]:
    blob = _text(item, "encrypted_content")
    try:
        if not blob.startswith(_OURS):
            raise ValueError
        summary = orjson.loads(base64.b64decode(blob[len(_OURS) :], validate=True))["summary"]
    except (ValueError, binascii.Error, KeyError, TypeError):
        raise ApiError(
            "The encrypted content of this compaction could not be verified. It was not made by "
            "this server.",
            item.path("encrypted_content"),
            "invalid_encrypted_content",
        ) from None
    return SUMMARY_HEADING + str(summary), {"type": "compaction", "encrypted_content": blob}


def _text(item: Fields, name: str) -> str:
    item.required(name)
    return item.text(name) or ""

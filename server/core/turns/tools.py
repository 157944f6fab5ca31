"""Tools that an ask offers and the results of their calls; checked the same on every wire.

The shapes are those of OpenAI's chat completions, and are passed on as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from server.core import validation
from server.core.errors import InvalidRequestError
from server.openai_protocol.messages import (
    APPROVED,
    TO_APPROVE,
    answered_call,
    calls_in,
    results_in,
)
from storage.model import Content, Message, Role

#: What an ask may offer, beside how its answer is written.
OPTIONS: Final = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
)
MOST_TOOLS = 128
#: Bytes, as JSON, and the depth of all of them together.
MOST_BYTES, MOST_DEPTH = 256 << 10, 40
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KINDS = ("function", "custom")
#: The type of an entry of `tools` that names a server of ours, in OpenAI's shape for it.
MCP: Final = "mcp"
_OF_A_SERVER = ("type", "server_label", "allowed_tools", "require_approval")
_APPROVALS = ("never", "always")
_CHOICES = ("none", "auto", "required")
_FORMATS = ("text", "json_object", "json_schema")
#: those that the model reads, and so take tokens
_READ = ("tools", "response_format")


#: What approves a call of a tool that the server runs, in the place of its result.
APPROVE: Final = "approve"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a call; of one that is to be approved, `approve`, or why it is not."""

    tool_call_id: str
    content: str

    @property
    def kept(self) -> Content:
        """As a message of a tool is kept; of a call that is to be approved, the decision."""
        said = self.content
        if self.tool_call_id.startswith(TO_APPROVE):
            said = decision(said == APPROVE, said)
        return [{"type": "text", "text": said, "tool_call_id": self.tool_call_id}]


def decision(approve: bool, why: str | None = None) -> str:
    """Return what a model is told of a decision about a call."""
    if approve:
        return APPROVED
    return f"The call was not approved: {why}" if why else "The call was not approved."


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an ask offers, without what is None. Raises InvalidRequestError."""
    told = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    for name, value in told.items():
        _check_size(name, value)
    if "tools" in told:
        _check_tools(told["tools"])
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in told and not told.get("tools") and told[name] != "none":
            raise InvalidRequestError(f"{name} is allowed with tools only.", name)
    if "tool_choice" in told:
        _check_choice(told["tool_choice"])
    if "parallel_tool_calls" in told and not isinstance(told["parallel_tool_calls"], bool):
        raise InvalidRequestError(
            "parallel_tool_calls must be true or false.", "parallel_tool_calls"
        )
    if "response_format" in told:
        _check_format(told["response_format"])
    if "reasoning_effort" in told:
        validation.name(_text(told["reasoning_effort"], "reasoning_effort"), "reasoning_effort")
    return told


def fit_to_keep(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request of `/v1` offers, where `regenerate` could offer it again; else none."""
    try:
        return checked_options(given)
    except InvalidRequestError:
        return {}


def attached(options: Mapping[str, Any]) -> str:
    """Return the text of what is sent beside the messages, and takes tokens as they do."""
    read = {name: options[name] for name in _READ if name in options}
    return orjson.dumps(read).decode() if read else ""


def checked_results(given: Sequence[ToolResult]) -> None:
    """Refuse results that nothing can be the result of. Raises InvalidRequestError."""
    if len(given) > MOST_TOOLS:
        raise InvalidRequestError(f"tool_results are at most {MOST_TOOLS}.", "tool_results")
    for place, one in enumerate(given):
        name = f"tool_results[{place}]"
        if not one.tool_call_id:
            raise InvalidRequestError(f"{name}.tool_call_id is missing.", name)
        validation.text(one.tool_call_id, f"{name}.tool_call_id")
        validation.text(one.content, f"{name}.content")


def open_calls(branch: Sequence[Message]) -> list[str]:
    """Return the ids of the calls at the end of a branch, newest first, that nobody answered."""
    answered: set[str] = set()
    for message in branch:
        if message.role is Role.TOOL:
            answered.add(answered_call(message.content))
        elif message.role is Role.ASSISTANT:
            answered |= results_in(message.content)
            named = (str(call.get("id") or "") for call in calls_in(message.content))
            return [name for name in named if name and name not in answered]
        else:
            break
    return []


def check_answers(given: Sequence[ToolResult], calls: Sequence[str]) -> None:
    """Refuse results that do not answer every open call, once. Raises InvalidRequestError."""
    answered = [one.tool_call_id for one in given]
    if sorted(answered) == sorted(calls):
        return
    if not calls:
        raise InvalidRequestError("There is no open call here to be answered.", "tool_results")
    raise InvalidRequestError(
        f"tool_results must answer each of these calls once: {', '.join(calls)}.", "tool_results"
    )


def _check_size(name: str, value: Any) -> None:
    if validation.portable(value, name) > MOST_BYTES:
        raise InvalidRequestError(f"{name} must have at most {MOST_BYTES} bytes as JSON.", name)
    if validation.depth(value) > MOST_DEPTH:
        raise InvalidRequestError(f"{name} must be at most {MOST_DEPTH} deep.", name)


def _check_tools(tools: Any) -> None:
    if not isinstance(tools, list) or len(tools) > MOST_TOOLS:
        raise InvalidRequestError(f"tools must be a list of at most {MOST_TOOLS}.", "tools")
    for place, tool in enumerate(tools):
        param = f"tools[{place}]"
        kind = _kind(tool, param, (*_KINDS, MCP))
        if kind == MCP:
            _check_server(tool, param)
            continue
        about = tool.get(kind)
        name = about.get("name") if isinstance(about, dict) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequestError(
                f"{param}.{kind}.name must be 1 to 64 of a-z, A-Z, 0-9, _ and -.", param
            )


def _check_server(tool: Mapping[str, Any], param: str) -> None:
    """Refuse what names a server in another way than by its name: it is the operator's to say
    where servers are, and what they are shown.
    """
    for name in tool:
        if name not in _OF_A_SERVER:
            raise InvalidRequestError(
                f"{param}.{name} is not taken: MCP servers are those of the server's own settings, "
                "named by server_label.",
                param,
            )
    validation.name(_text(tool.get("server_label"), f"{param}.server_label"), param)
    allowed = tool.get("allowed_tools", [])
    if not isinstance(allowed, list) or not all(isinstance(one, str) for one in allowed):
        raise InvalidRequestError(f"{param}.allowed_tools must be a list of names.", param)
    if tool.get("require_approval", "never") not in _APPROVALS:
        told = " or ".join(_APPROVALS)
        raise InvalidRequestError(f"{param}.require_approval must be {told}.", param)


def _check_choice(choice: Any) -> None:
    if isinstance(choice, str) and choice in _CHOICES:
        return
    if isinstance(choice, dict):
        _kind(choice, "tool_choice", (*_KINDS, "allowed_tools"))
        return
    raise InvalidRequestError(
        f"tool_choice must be one of {', '.join(_CHOICES)}, or an object.", "tool_choice"
    )


def _check_format(form: Any) -> None:
    if _kind(form, "response_format", _FORMATS) == "json_schema":
        schema = form.get("json_schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
            raise InvalidRequestError(
                "response_format.json_schema must be an object with a name.", "response_format"
            )


def _kind(value: Any, param: str, kinds: Sequence[str]) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in kinds:
        raise InvalidRequestError(f"{param}.type must be one of {', '.join(kinds)}.", param)
    return str(kind)


def _text(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{param} must be a string.", param)
    return value

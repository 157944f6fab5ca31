"""Tools, choices among them and formats of the Responses API, in the shape that chats have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.core.turns.tools import MCP
from server.openai_protocol import errors
from server.openai_protocol.fields import Fields
from server.transports.openai.responses.input import ADDITIONAL, input_of
from server.transports.openai.responses.namespaces import NAMESPACE, checked, joined, unpacked

_KINDS: Final = ("function", "custom")
#: Hosted tools that hold nothing of the caller's: beside its own tools a model can do without.
_DISPENSABLE: Final = ("web_search", "web_search_preview", "tool_search")
_CHOICES: Final = ("none", "auto", "required")
_FORMATS: Final = ("text", "json_object", "json_schema")
_VERBOSITIES: Final = ("low", "medium", "high")
_GRAMMAR: Final = ("syntax", "definition")
#: what is said of a schema, beside it
_ABOUT: Final = ("name", "description", "schema", "strict")


def hosted(asked: Fields) -> bool:
    """Say whether a request wants a tool that only its maker runs."""
    tools = asked.raw("tools")
    return isinstance(tools, list) and any(
        isinstance(tool, dict)
        and tool.get("type") not in (*_KINDS, NAMESPACE)
        and not _is_ours(tool)
        for tool in tools
    )


def _is_ours(tool: Mapping[str, Any]) -> bool:
    """Say whether a tool is an MCP server by a name of ours, and not one somewhere."""
    return tool.get("type") == MCP and not {"server_url", "connector_id"} & tool.keys()


def offered(asked: Fields) -> list[Fields]:
    """Return the tools that are offered to the model, in the input too. Raises RefusedError.

    Agents (Codex, say) offer a search of the web beside their own tools, whoever is asked: it is
    left out, as it is one that a model need not use. Alone it is what was wanted, and is refused.
    """
    said = input_of(asked) if asked.raw("input") else []
    places = [asked, *(item for item in said if item.raw("type") == ADDITIONAL)]
    tools = [tool for one in places if one.raw("tools") for tool in one.parts("tools") or ()]
    own = [tool for tool in tools if tool.raw("type") not in _DISPENSABLE]
    return own or tools


def options_of(asked: Fields) -> dict[str, Any]:
    """Return what is offered, in chat's shape. Raises RefusedError."""
    told: dict[str, Any] = {}
    if tools := _tools(asked):
        told["tools"] = tools
        told["parallel_tool_calls"] = asked.raw("parallel_tool_calls")
        told["tool_choice"] = _choice(asked)
        asked.flag("parallel_tool_calls")
    elif asked.raw("tool_choice") not in (None, "none", "auto"):
        raise errors.ApiError(
            "Tool choice 'required' must be specified with 'tools' parameter."
            if asked.raw("tool_choice") == "required"
            else "Tool choice must be specified with 'tools' parameter.",
            "tool_choice",
        )
    if (text := asked.part("text")) is not None and (form := text.part("format")) is not None:
        told["response_format"] = _format(form)
    if (reasoning := asked.part("reasoning")) is not None:
        told["reasoning_effort"] = reasoning.text("effort")
    return {name: value for name, value in told.items() if value is not None}


def verbosity_of(asked: Fields) -> str | None:
    text = asked.part("text")
    return None if text is None else text.one_of("verbosity", _VERBOSITIES)


def tool_of_chat(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool in chat's shape as responses have it, every field told."""
    kind = str(tool.get("type"))
    about = tool.get(kind)
    return shown({"type": kind, **(about if isinstance(about, Mapping) else {})})


def shown(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool as a response shows it."""
    if tool.get("type") == NAMESPACE:
        return {"description": "", **tool, "tools": [shown(one) for one in tool.get("tools") or ()]}
    if tool.get("type") != "function":
        return dict(tool)
    return {"description": None, "parameters": None, "strict": None, **tool}


def _tools(asked: Fields) -> list[dict[str, Any]]:
    found = [(space, _tool(tool, space)) for space, tool in unpacked(offered(asked))]
    if any(space for space, _ in found):
        checked(tool[tool["type"]]["name"] for _, tool in found if tool["type"] != MCP)
    return [tool for _, tool in found]


def _tool(tool: Fields, space: str | None) -> dict[str, Any]:
    tool.required("type")
    if _is_ours(tool.values):
        return {name: value for name, value in tool.values.items() if value is not None}
    kind = tool.one_of("type", _KINDS if space else (*_KINDS, NAMESPACE)) or ""
    tool.required("name")
    about = {
        name: value for name, value in tool.values.items() if name != "type" and value is not None
    }
    if space:
        about["name"] = joined(space, tool.text("name") or "")
    if kind == "custom" and (form := tool.part("format")) is not None:
        about["format"] = _custom_format(form)
    return {"type": kind, kind: about}


def _custom_format(form: Fields) -> dict[str, Any]:
    if form.one_of("type", ("text", "grammar")) != "grammar":
        return {"type": "text"}
    return {"type": "grammar", "grammar": {name: form.required(name) for name in _GRAMMAR}}


def _choice(asked: Fields) -> Any:
    choice = asked.raw("tool_choice")
    if choice is None or isinstance(choice, str):
        return asked.one_of("tool_choice", _CHOICES)
    chosen = asked.part("tool_choice")
    if chosen is None:
        return None
    chosen.required("type")
    if chosen.one_of("type", (*_KINDS, "allowed_tools")) != "allowed_tools":
        return _named(chosen)
    allowed = [_named(one) for one in chosen.parts("tools") or ()]
    mode = chosen.one_of("mode", ("auto", "required")) or "auto"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}


def _named(chosen: Fields) -> dict[str, Any]:
    kind = chosen.one_of("type", _KINDS) or "function"
    return {"type": kind, kind: {"name": chosen.required("name")}}


def _format(form: Fields) -> dict[str, Any]:
    form.required("type")
    kind = form.one_of("type", _FORMATS) or "text"
    if kind != "json_schema":
        return {"type": kind}
    for name in ("name", "schema"):
        form.required(name)
    given = {name: form.raw(name) for name in _ABOUT if form.raw(name) is not None}
    return {"type": kind, "json_schema": given}

"""Which of the tools that the server runs itself a question is offered, and how they are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from server.core.errors import InvalidRequestError
from server.core.prompt.compose import PromptRequest
from server.core.turns.questions import Ask
from server.core.turns.tools import MCP, MOST_TOOLS, attached
from server.mcp.port import ServerTool, Toolbox
from server.openai_protocol.messages import APPROVED, TO_APPROVE, answered_call
from storage.model import Role, answer_of


def equipped(request: PromptRequest, box: Toolbox) -> PromptRequest:
    """Return a request with the tools of ours that it is offered; who keeps a history of its own
    brings all that it wants, and a text has none. Raises InvalidRequestError; see `offered`.
    """
    if request.as_it_came or request.template is not None:
        return request
    tools = offered(box, request.owner, request.model, request.options)
    beside = sent(request.options, tools)
    if beside == request.options:
        return request
    own, all_ = attached(request.options), attached(beside)
    read = all_ if request.attached == own else request.attached + attached(sent({}, tools))
    return replace(request, tools=tools, attached=read)


def offered(
    box: Toolbox, owner: str, model: str, options: Mapping[str, Any]
) -> tuple[ServerTool, ...]:
    """Return the tools that are offered beside a caller's own: of the servers that it names, else
    of all that it may use. Raises InvalidRequestError for a server that there is not, for it.
    """
    wanted = {tool["server_label"]: tool for tool in options.get("tools", ()) if is_server(tool)}
    there = box.servers(owner)
    for label in wanted:
        if label not in there:
            known = f"; there are {', '.join(there)}" if there else ""
            raise InvalidRequestError(f"There is no MCP server {label!r} here{known}.", "tools")
    if options.get("tool_choice") == "none":
        return ()
    own = {_name(tool) for tool in options.get("tools", ()) if not is_server(tool)}
    found = (
        _as_wished(tool, wanted.get(tool.server, {}))
        for tool in box.offered(owner, model)
        if tool.called not in own and (not wanted or _is_wished(tool, wanted))
    )
    return tuple(found)[: MOST_TOOLS - len(own)]


def approved(question: Ask) -> frozenset[str]:
    """Return the ids of the calls that a question approves, by a result or an item of input."""
    results = [one.kept for one in question.tool_results]
    if question.response is not None:
        results += [one.content for one in question.response.said if one.role is Role.TOOL]
    calls = {answered_call(one) for one in results if answer_of(one) == APPROVED}
    return frozenset(one for one in calls if one.startswith(TO_APPROVE))


def sent(options: Mapping[str, Any], tools: Sequence[ServerTool]) -> Mapping[str, Any]:
    """Return a caller's options with these tools among its own, as an upstream takes them."""
    own = [tool for tool in options.get("tools", ()) if not is_server(tool)]
    if both := [*own, *(tool.function for tool in tools)]:
        return {**options, "tools": both}
    alone = ("tools", "tool_choice", "parallel_tool_calls")
    return {name: value for name, value in options.items() if name not in alone}


def is_server(tool: Mapping[str, Any]) -> bool:
    """Say whether an entry of `tools` names a server, and is no tool itself."""
    return bool(tool["type"] == MCP)


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool[tool["type"]]["name"])


def _is_wished(tool: ServerTool, wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    if (server := wanted.get(tool.server)) is None:
        return False
    allowed = server.get("allowed_tools")
    return allowed is None or tool.name in allowed


def _as_wished(tool: ServerTool, server: Mapping[str, Any]) -> ServerTool:
    """Let a caller ask for more approvals than the configuration does, never for fewer."""
    always = server.get("require_approval") == "always"
    return replace(tool, approve=True) if always else tool

"""Tools in namespaces: chats have none, so that a tool's name begins with its namespace there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from server.openai_protocol.errors import ApiError, misnamed
from server.openai_protocol.fields import Fields

NAMESPACE: Final = "namespace"
#: How long the name of a tool may be in a chat, and what of it tells two apart that are cut.
_LONGEST, _MARK = 64, 8

#: What is called by a chat's name: a namespace, and the name in it.
Spaces = Mapping[str, tuple[str, str]]


def joined(space: str | None, name: str) -> str:
    """Return the name that a tool has in a chat."""
    if not space:
        return name
    whole = f"{space}__{name}"
    if len(whole) <= _LONGEST:
        return whole
    mark = hashlib.sha256(whole.encode()).hexdigest()[:_MARK]
    return f"{whole[: _LONGEST - _MARK - 1]}_{mark}"


def unpacked(tools: Iterable[Fields]) -> Iterator[tuple[str | None, Fields]]:
    """Yield each tool with the namespace that it is in. Raises RefusedError."""
    for tool in tools:
        if tool.raw("type") != NAMESPACE:
            yield None, tool
            continue
        space = tool.text("name")
        if not space:
            raise misnamed(tool.path("name"))
        for inner in tool.parts("tools") or ():
            yield space, inner


def checked(names: Iterable[str]) -> None:
    """Refuse two tools that a chat would call by one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ApiError(f"The name of a tool is there twice: '{name}'.", "tools")
        seen.add(name)


def spaces_of(tools: Iterable[Mapping[str, Any]]) -> Spaces:
    """Return the namespaces of tools that were offered, by their names in a chat."""
    return {
        joined(tool["name"], inner["name"]): (tool["name"], inner["name"])
        for tool in tools
        if tool.get("type") == NAMESPACE
        for inner in tool.get("tools") or ()
    }


def named(name: str | None, spaces: Spaces) -> dict[str, str]:
    """Return the name of what was called, with its namespace where it is in one."""
    if name is not None and name in spaces:
        space, own = spaces[name]
        return {"name": own, "namespace": space}
    return {"name": name or ""}

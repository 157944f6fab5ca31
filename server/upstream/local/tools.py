"""The tools that a chat offers, and which of them must be called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.upstream.local.json_schema.document import UnfitError
from server.upstream.local.json_schema.generate import fitting
from server.upstream.local.json_schema.vocabulary import Words

FUNCTION = "function"
CUSTOM = "custom"

#: letters of a tool's name and description that are compared with what was said
_HEARD = 500
#: letters of what was said that are looked through for a tool's name
_SAID = 2_000
_MOST_TOOLS = 128
_CHOICES = ("none", "auto", "required")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAMES = re.compile(r"[A-Za-z][a-z]+|[A-Z]+")
_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function, or a tool that takes any text; `param` is where the request has its schema."""

    kind: str
    name: str
    about: Mapping[str, Any]
    param: str


@dataclass(frozen=True, slots=True)
class Tools:
    """What is offered, and of that what must be called: nothing, or one of `forced`."""

    offered: tuple[Tool, ...] = ()
    forced: tuple[Tool, ...] = ()
    #: asked for with `functions`, as it was before there were tools
    of_old: bool = False

    def chosen(self, words: Words) -> Tool | None:
        """Return the tool to be called: of several the one whose words were heard most."""
        if not self.forced:
            return None
        return max(self.forced, key=lambda tool: sum(map(words.mentions, _words(tool))))


def read_tools(asked: Fields) -> Tools:
    """Read a request's tools and its choice among them. Raises RefusedError."""
    offered = tuple(map(_tool, asked.parts("tools") or ()))
    if len(offered) > _MOST_TOOLS:
        raise errors.overlong("tools", _MOST_TOOLS, len(offered))
    asked.flag("parallel_tool_calls")
    if offered or asked.raw("functions") is None:
        return Tools(offered, _writable(_forced(asked, offered)))
    functions = tuple(_named(part, FUNCTION) for part in asked.parts("functions") or ())
    return Tools(functions, _forced_of_old(asked, functions), of_old=True)


def arguments(tool: Tool, words: Words, turn: int) -> str:
    """Return what a tool is called with: JSON that fits its schema, or words.

    Raises RefusedError where no JSON can be written that fits.
    """
    if tool.kind == CUSTOM:
        return words.said or words.answer
    schema = tool.about.get("parameters")
    try:
        value = fitting(_NOTHING if schema is None else schema, words, turn)
    except UnfitError as error:
        raise ApiError(
            f"Invalid schema for function '{tool.name}': {error}.",
            f"{tool.param}.parameters",
            "invalid_function_parameters",
        ) from error
    return orjson.dumps(value).decode()


def means(said: str, name: str) -> bool:
    """Say whether what was said names a tool: has the last word of its name, as `get_weather`."""
    named = _NAMES.findall(name)
    heard = {word.lower() for word in _NAMES.findall(said[:_SAID])}
    return bool(named) and len(named[-1]) > 2 and named[-1].lower() in heard


def _tool(part: Fields) -> Tool:
    part.required("type")
    kind = part.one_of("type", (FUNCTION, CUSTOM)) or FUNCTION
    part.required(kind)
    inner = part.part(kind)
    assert inner is not None  # noqa: S101 - required just now
    return _named(inner, kind)


def _named(part: Fields, kind: str) -> Tool:
    part.required("name")
    name = part.text("name") or ""
    if not _NAME.fullmatch(name):
        raise errors.misnamed(part.path("name"))
    part.text("description")
    part.part("parameters")
    return Tool(kind, name, part.values, part.where)


def by_grammar(about: Mapping[str, Any]) -> bool:
    """Say whether a tool is called with what a grammar describes, which is not read here."""
    form = about.get("format")
    return isinstance(form, Mapping) and form.get("type") == "grammar"


def _writable(forced: Sequence[Tool]) -> tuple[Tool, ...]:
    """Leave out what cannot be called; it is refused where nothing else may be."""
    free = tuple(tool for tool in forced if tool.kind != CUSTOM or not by_grammar(tool.about))
    if forced and not free:
        raise errors.unsupported(f"{forced[0].param}.format")
    return free


def _forced(asked: Fields, offered: Sequence[Tool]) -> tuple[Tool, ...]:
    choice = asked.raw("tool_choice")
    if isinstance(choice, str):
        asked.one_of("tool_choice", _CHOICES)
    if choice in (None, "none", "auto"):
        return ()
    if not offered:
        raise ApiError(
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are "
            "specified.",
            "tool_choice",
        )
    if choice == "required":
        return _uncalled(asked, offered)
    if not isinstance(choice, Mapping):
        raise errors.mistyped("tool_choice", "one of a string or an object", choice)
    return _uncalled(asked, _chosen(Fields(choice, "tool_choice"), offered))


def _uncalled(asked: Fields, forced: Sequence[Tool]) -> tuple[Tool, ...]:
    """Leave out what was called since the user spoke last, or an agent would never come to an end.

    All are left in where all were called.
    """
    called = set(_called(asked.raw("messages") or ()))
    return tuple(tool for tool in forced if tool.name not in called) or tuple(forced)


def _called(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in reversed(messages):
        if message.get("role") == "user":
            return
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            match call:
                case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}}:
                    yield name


def _chosen(choice: Fields, offered: Sequence[Tool]) -> tuple[Tool, ...]:
    choice.required("type")
    kind = choice.one_of("type", (FUNCTION, CUSTOM, "allowed_tools")) or FUNCTION
    choice.required(kind)
    inner = choice.part(kind)
    assert inner is not None  # noqa: S101 - required just now
    if kind != "allowed_tools":
        return (_find(inner, offered),)
    inner.required("mode")
    mode = inner.one_of("mode", ("auto", "required"))
    inner.required("tools")
    allowed = tuple(_allowed(part, offered) for part in inner.parts("tools") or ())
    return allowed if mode == "required" else ()


def _allowed(part: Fields, offered: Sequence[Tool]) -> Tool:
    kind = part.one_of("type", (FUNCTION, CUSTOM)) or FUNCTION
    return _find(part.part(kind) or part, offered)


def _find(part: Fields, offered: Sequence[Tool]) -> Tool:
    part.required("name")
    name = part.text("name")
    for tool in offered:
        if tool.name == name:
            return tool
    raise ApiError(
        f"Tool choice '{errors.quote(name)}' not found in 'tools' parameter.", "tool_choice"
    )


def _forced_of_old(asked: Fields, functions: Sequence[Tool]) -> tuple[Tool, ...]:
    choice = asked.raw("function_call")
    match choice:
        case None | "none" | "auto":
            return ()
        case {"name": str(name)}:
            found = tuple(tool for tool in functions if tool.name == name)
            if found:
                return found
            raise ApiError(
                f"Invalid value for 'function_call': no function named '{errors.quote(name)}' "
                "was specified in the 'functions' parameter.",
                "function_call",
            )
        case str():
            raise errors.unknown_value("function_call", choice, ("none", "auto"))
        case _:
            raise errors.mistyped("function_call", "one of a string or an object", choice)


def _words(tool: Tool) -> set[str]:
    spoken = f"{tool.name} {tool.about.get('description') or ''}"[:_HEARD]
    return {word.lower() for word in _NAMES.findall(spoken) if len(word) > 2}

"""What the fields of a websocket client's frames may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from server.core.conversations import Ask, IfBusy, Mode, OnDisconnect
from server.core.errors import InvalidRequestError
from server.core.rendering import micros
from server.core.turns.parameters import KNOWN, SPELLINGS, beside
from server.core.turns.tools import OPTIONS, ToolResult, checked_options

Check = Callable[[str, object], Any]


def checked(
    kind: str,
    fields: Mapping[str, Any],
    allowed: Mapping[str, Check],
    required: Sequence[str] = (),
    clearable: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a frame's fields as their own types; null is the same as absent.

    Save in what is `clearable`: there it is left to the core what null means.
    """
    for name in fields:
        if name not in allowed:
            shown = name[:64].encode(errors="replace").decode()
            raise InvalidRequestError(f"{kind} has no field {shown!r}.", shown)
    given = {k: v for k, v in fields.items() if v is not None or k in clearable}
    for name in required:
        if name not in given:
            raise InvalidRequestError(f"{name} is missing.", name)
    return {k: v if v is None else allowed[k](k, v) for k, v in given.items()}


def question(given: dict[str, Any]) -> Ask:
    """Return what a frame with the fields of ASK asks; nothing else may be left in it."""
    for name in ("stream", "on_disconnect", "progress"):
        given.pop(name, None)
    results = given.pop("tool_results", ())
    asked = ("prompt" in given) + ("content" in given)
    if asked > 1 or not (asked or results):
        raise InvalidRequestError("Give either prompt or content.", "prompt")
    content_ = given.pop("prompt", None) or given.pop("content", "")
    options = checked_options({name: given.pop(name, None) for name in OPTIONS})
    return Ask(content_, options=options, tool_results=results, **with_extra(given))


def with_extra(given: dict[str, Any]) -> dict[str, Any]:
    """Return fields with the parameters beside OpenAI's own in `extra`, where there are any."""
    named = {name: given.pop(name) for name in (*KNOWN, *SPELLINGS) if name in given}
    extra = given.pop("extra", None)
    return given | {"extra": beside(named, extra)} if named or extra else given


def text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a string.", name)
    return value


def integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be an integer.", name)
    return value


def cursor(name: str, value: object) -> int:
    position_ = integer(name, value)
    if position_ < 0:
        raise InvalidRequestError(f"{name} must not be negative.", name)
    return position_


def number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be a number.", name)
    return float(value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be true or false.", name)
    return value


def members(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{name} must be an object.", name)
    return value


def content(name: str, value: object) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return value
    raise InvalidRequestError(f"{name} must be a string or a list of parts.", name)


def stop(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise InvalidRequestError(f"{name} must be a string or a list of strings.", name)


def anything(name: str, value: object) -> Any:
    """Return what the core looks at."""
    return value


def results(name: str, value: object) -> tuple[ToolResult, ...]:
    if isinstance(value, list) and all(map(_is_result, value)):
        return tuple(ToolResult(**one) for one in value)
    raise InvalidRequestError(
        f"{name} must be a list of objects of tool_call_id and content, both strings.", name
    )


def _is_result(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"tool_call_id", "content"}
        and all(isinstance(one, str) for one in value.values())
    )


@dataclass(frozen=True, slots=True)
class OneOf:
    """Checks that a field is one of these words."""

    kind: type[StrEnum]

    def __call__(self, name: str, value: object) -> StrEnum:
        try:
            return self.kind(text(name, value))
        except ValueError:
            told = f"{name} must be one of {', '.join(self.kind)}."
            raise InvalidRequestError(told, name) from None


def position(name: str, value: object) -> tuple[str, int]:
    turn_id, _, cursor_ = text(name, value).rpartition(":")
    if not turn_id or not cursor_.isascii() or not cursor_.isdigit() or len(cursor_) > 18:
        raise InvalidRequestError(f"{name} must be TURN_ID:CURSOR.", name)
    return turn_id, int(cursor_)


def moment(name: str, value: object) -> int | None:
    """Return a time, as REST takes it in a query, in microseconds since 1970."""
    try:
        return micros(_MOMENT.validate_python(text(name, value)))
    except ValidationError:
        raise InvalidRequestError(f"{name} must be a time as RFC 3339 writes it.", name) from None


_MOMENT = TypeAdapter(datetime)

#: What both ways to ask say about the answer.
HOW: Mapping[str, Check] = {
    "conversation_id": text,
    "model": text,
    "stream": flag,
    "max_tokens": integer,
    "temperature": number,
    "top_p": number,
    "seed": integer,
    "stop": stop,
    "mode": OneOf(Mode),
    "character": text,
    "instruction_template": text,
    "prompt_template": text,
    **{
        name: integer if KNOWN[SPELLINGS.get(name, name)][2] else number
        for name in (*KNOWN, *SPELLINGS)
    },
    "extra": members,
    "if_busy": OneOf(IfBusy),
    "on_disconnect": OneOf(OnDisconnect),
    "progress": flag,
}

ASK: Mapping[str, Check] = {
    "prompt": content,
    "content": content,
    "parent_id": text,
    "system_prompt": text,
    "idempotency_key": text,
    **dict.fromkeys(OPTIONS, anything),
    "tool_results": results,
    **HOW,
}

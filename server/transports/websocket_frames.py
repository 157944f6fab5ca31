"""What a websocket client can say, one frozen object for each kind of frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from server.core.conversations import Ask, IfBusy, OnDisconnect, Regenerate
from server.core.errors import InvalidRequestError

#: A request_id comes back on every frame of an answer, so its size is bounded.
MAX_REQUEST_ID = 4096
Check = Callable[[str, object], Any]

EASY_ASK = "<|ask|>"
# Text that begins like this was meant as an object, so where it is broken it is no prompt.
OBJECT = re.compile(r'\s*\{\s*["}]')
MESSAGE_ID = re.compile(r"msg_[0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Bare text, for the connection's own conversation."""

    text: str


@dataclass(frozen=True, slots=True)
class EasyAsk:
    """A prompt in EasyBackend's dialect; `parent` is None in its first form."""

    conversation_id: str
    parent: str | None
    prompt: str


@dataclass(frozen=True, slots=True)
class AskFrame:
    conversation_id: str | None
    question: Ask
    on_disconnect: OnDisconnect


@dataclass(frozen=True, slots=True)
class RegenerateFrame:
    conversation_id: str | None
    again: Regenerate
    on_disconnect: OnDisconnect


@dataclass(frozen=True, slots=True)
class FollowFrame:
    turn_id: str
    after: int


@dataclass(frozen=True, slots=True)
class WatchFrame:
    conversation_id: str
    after: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class UnwatchFrame:
    conversation_id: str


@dataclass(frozen=True, slots=True)
class CancelFrame:
    turn_id: str


@dataclass(frozen=True, slots=True)
class AuthenticateFrame:
    api_key: str


@dataclass(frozen=True, slots=True)
class PingFrame:
    pass


Frame = (
    Prompt
    | EasyAsk
    | AskFrame
    | RegenerateFrame
    | FollowFrame
    | WatchFrame
    | UnwatchFrame
    | CancelFrame
    | AuthenticateFrame
    | PingFrame
)


class FrameError(InvalidRequestError):
    """A frame that cannot be understood, and the request_id that it gave all the same."""

    def __init__(self, message: str, param: str | None = None, request_id: str | None = None):
        super().__init__(message, param)
        self.request_id = request_id


def parse(message: str | bytes) -> tuple[str | None, Frame]:
    """Return a frame's request_id and what it says. Raises FrameError."""
    if isinstance(message, bytes):
        raise FrameError("Binary frames are not understood; send JSON as text.")
    if message.startswith(EASY_ASK):
        return None, _easy_ask(message.removeprefix(EASY_ASK))
    fields = _fields(message)
    if fields is None:
        return None, Prompt(message)
    request_id = _request_id(fields.pop("request_id", None))
    try:
        return request_id, _frame(fields)
    except InvalidRequestError as error:
        raise FrameError(str(error), error.param, request_id) from None


def _fields(message: str) -> dict[str, Any] | None:
    """Return the members of a JSON object, or None where the text is a prompt."""
    try:
        document = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        if OBJECT.match(message):
            raise FrameError(f"This is not valid JSON: {error.msg}.") from None
        return None
    return document if isinstance(document, dict) else None


def _request_id(given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise FrameError("request_id must be a string.", "request_id")
    if len(given) > MAX_REQUEST_ID:
        raise FrameError(f"request_id must be at most {MAX_REQUEST_ID} characters.", "request_id")
    return given


def _easy_ask(rest: str) -> EasyAsk:
    parts = rest.split("$", 3)
    if len(parts) < 3 or parts[0]:
        return EasyAsk("", None, "")  # asks nothing, and is refused in its own dialect
    conversation_id, second = parts[1], parts[2]
    if len(parts) == 4 and (second in ("", "new") or MESSAGE_ID.fullmatch(second)):
        return EasyAsk(conversation_id, second, parts[3])
    return EasyAsk(conversation_id, None, "$".join(parts[2:]))


def _frame(fields: dict[str, Any]) -> Frame:
    kind = fields.pop("type", None)
    if not isinstance(kind, str):
        raise InvalidRequestError("type must be a string.", "type")
    if kind not in FIELDS:
        raise InvalidRequestError(f"There is no type {kind[:64]!r}.", "type")
    return MAKE[kind](_checked(kind, fields))


def _checked(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame's fields as their own types; null is the same as absent."""
    allowed = FIELDS[kind]
    for name in fields:
        if name not in allowed:
            raise InvalidRequestError(f"{kind} has no field {name[:64]!r}.", name[:64])
    given = {name: value for name, value in fields.items() if value is not None}
    for name in REQUIRED[kind]:
        if name not in given:
            raise InvalidRequestError(f"{name} is missing.", name)
    return {name: allowed[name](name, value) for name, value in given.items()}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a string.", name)
    return value


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be an integer.", name)
    return value


def _cursor(name: str, value: object) -> int:
    cursor = _integer(name, value)
    if cursor < 0:
        raise InvalidRequestError(f"{name} must not be negative.", name)
    return cursor


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be a number.", name)
    return float(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be true or false.", name)
    return value


def _content(name: str, value: object) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return value
    raise InvalidRequestError(f"{name} must be a string or a list of parts.", name)


def _stop(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise InvalidRequestError(f"{name} must be a string or a list of strings.", name)


def _one_of(kind: type[StrEnum]) -> Check:
    def check(name: str, value: object) -> StrEnum:
        try:
            return kind(_text(name, value))
        except ValueError:
            raise InvalidRequestError(f"{name} must be one of {', '.join(kind)}.", name) from None

    return check


def _position(name: str, value: object) -> tuple[str, int]:
    turn_id, _, cursor = _text(name, value).rpartition(":")
    if not turn_id or not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidRequestError(f"{name} must be TURN_ID:CURSOR.", name)
    return turn_id, int(cursor)


def _ask(given: dict[str, Any]) -> AskFrame:
    given.pop("stream", None)
    if ("prompt" in given) == ("content" in given):
        raise InvalidRequestError("Give either prompt or content.", "prompt")
    content = given.pop("prompt", None) or given.pop("content", "")
    return AskFrame(
        given.pop("conversation_id", None),
        on_disconnect=given.pop("on_disconnect", OnDisconnect.CONTINUE),
        question=Ask(content, **given),
    )


def _regenerate(given: dict[str, Any]) -> RegenerateFrame:
    given.pop("stream", None)
    return RegenerateFrame(
        given.pop("conversation_id", None),
        on_disconnect=given.pop("on_disconnect", OnDisconnect.CONTINUE),
        again=Regenerate(**given),
    )


HOW: Mapping[str, Check] = {
    "conversation_id": _text,
    "model": _text,
    "stream": _flag,
    "max_tokens": _integer,
    "temperature": _number,
    "top_p": _number,
    "seed": _integer,
    "stop": _stop,
    "if_busy": _one_of(IfBusy),
    "on_disconnect": _one_of(OnDisconnect),
}

FIELDS: Mapping[str, Mapping[str, Check]] = {
    "ask": {
        "prompt": _content,
        "content": _content,
        "parent_id": _text,
        "system_prompt": _text,
        "idempotency_key": _text,
        **HOW,
    },
    "regenerate": {"message_id": _text, **HOW},
    "follow": {"turn_id": _text, "after": _cursor},
    "watch": {"conversation_id": _text, "after": _position},
    "unwatch": {"conversation_id": _text},
    "cancel": {"turn_id": _text},
    "authenticate": {"api_key": _text},
    "ping": {},
}

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ask": (),
    "regenerate": (),
    "follow": ("turn_id",),
    "watch": ("conversation_id",),
    "unwatch": ("conversation_id",),
    "cancel": ("turn_id",),
    "authenticate": ("api_key",),
    "ping": (),
}

MAKE: Mapping[str, Callable[[dict[str, Any]], Frame]] = {
    "ask": _ask,
    "regenerate": _regenerate,
    "follow": lambda given: FollowFrame(given["turn_id"], given.get("after", 0)),
    "watch": lambda given: WatchFrame(given["conversation_id"], given.get("after")),
    "unwatch": lambda given: UnwatchFrame(given["conversation_id"]),
    "cancel": lambda given: CancelFrame(given["turn_id"]),
    "authenticate": lambda given: AuthenticateFrame(given["api_key"]),
    "ping": lambda given: PingFrame(),
}

"""What a websocket client can say, one frozen object for each kind of frame."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from server.core.conversations import Ask, OnDisconnect, Regenerate
from server.core.errors import InvalidRequestError
from server.core.ids import NEW
from server.transports.websocket import calls, fields
from server.transports.websocket.calls import CallFrame
from server.transports.websocket.fields import Check
from server.transports.websocket.replies import RequestId

#: A request_id comes back on every frame of an answer, so its size is bounded.
MAX_REQUEST_ID = 4096

EASY_ASK = "<|ask|>"
# Text that begins like this was meant as an object, so where it is broken it is no prompt.
OBJECT = re.compile(r'\s*\{\s*["}]')
MESSAGE_ID = re.compile(r"msg_[0-9A-Za-z]+")
# What was imported kept its ids, which may look like a word of a prompt.
FOREIGN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]*")


@dataclass(frozen=True, slots=True)
class PromptFrame:
    """Bare text, for the connection's own conversation."""

    text: str
    on_disconnect: ClassVar = OnDisconnect.CONTINUE
    progress: ClassVar = False


@dataclass(frozen=True, slots=True)
class EasyAsk:
    """A prompt in EasyBackend's dialect; `parent` is None in its first form.

    `perhaps` is its second form where only the conversation can tell whether that was meant.
    """

    conversation_id: str
    parent: str | None
    prompt: str
    perhaps: EasyAsk | None = None


@dataclass(frozen=True, slots=True)
class AskFrame:
    conversation_id: str | None
    question: Ask
    on_disconnect: OnDisconnect
    progress: bool


@dataclass(frozen=True, slots=True)
class RegenerateFrame:
    conversation_id: str | None
    again: Regenerate
    on_disconnect: OnDisconnect
    progress: bool


@dataclass(frozen=True, slots=True)
class FollowFrame:
    turn_id: str
    after: int
    progress: bool


@dataclass(frozen=True, slots=True)
class WatchFrame:
    """`conversation_id` is None for all of them."""

    conversation_id: str | None
    after: tuple[str, int] | None
    progress: bool


@dataclass(frozen=True, slots=True)
class UnwatchFrame:
    conversation_id: str | None


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
    PromptFrame
    | EasyAsk
    | AskFrame
    | RegenerateFrame
    | FollowFrame
    | WatchFrame
    | UnwatchFrame
    | CancelFrame
    | AuthenticateFrame
    | PingFrame
    | CallFrame
)


class FrameError(InvalidRequestError):
    """A frame that cannot be understood, and the request_id that it gave all the same."""

    def __init__(
        self, message: str, param: str | None = None, request_id: RequestId | None = None
    ) -> None:
        super().__init__(message, param)
        self.request_id = request_id


def parse(message: str | bytes) -> tuple[RequestId | None, Frame]:
    """Return a frame's request_id and what it says. Raises FrameError."""
    if isinstance(message, bytes):
        raise FrameError("Binary frames are not understood; send JSON as text.")
    if message.startswith(EASY_ASK):
        return None, _easy_ask(message.removeprefix(EASY_ASK))
    given = _members(message)
    if given is None:
        return None, PromptFrame(message)
    request_id = _request_id(given.pop("request_id", None))
    try:
        return request_id, _frame(given)
    except InvalidRequestError as error:
        raise FrameError(str(error), error.param, request_id) from None


def _members(message: str) -> dict[str, Any] | None:
    """Return the members of a JSON object, or None where the text is a prompt."""
    try:
        document = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        return _unusual(message, error.msg) if OBJECT.match(message) else None
    return document if isinstance(document, dict) else None


def _unusual(message: str, why: str) -> dict[str, Any]:
    """Read JSON that the fast reader refuses, so that each field's own check can say what is wrong.

    It may hold half of a surrogate pair, a number that is none, or one beyond 64 bits.
    """
    try:
        members: dict[str, Any] = json.loads(message)
    except (ValueError, RecursionError):
        raise FrameError(f"This is not valid JSON: {why}.") from None
    return members


def _request_id(given: object) -> RequestId | None:
    """Return the request_id that a frame gave, which is repeated as it came."""
    match given:
        case None:
            return None
        case bool():
            pass
        case str():
            return _short(given)
        case float() if math.isfinite(given):
            return given
        case int() if -(1 << 63) <= given < 1 << 64:
            return given
    raise FrameError("request_id must be a string, or a number of at most 64 bits.", "request_id")


def _short(given: str) -> str:
    if len(given) > MAX_REQUEST_ID:
        raise FrameError(f"request_id must be at most {MAX_REQUEST_ID} characters.", "request_id")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise FrameError("request_id has half of a surrogate pair.", "request_id") from None
    return given


def _easy_ask(rest: str) -> EasyAsk:
    parts = rest.split("$", 3)
    if len(parts) < 3 or parts[0]:
        return EasyAsk("", None, "")  # asks nothing, and is refused in its own dialect
    conversation_id, second = parts[1], parts[2]
    whole = EasyAsk(conversation_id, None, "$".join(parts[2:]))
    if len(parts) < 4:
        return whole
    under = EasyAsk(conversation_id, second, parts[3])
    if second in ("", NEW) or MESSAGE_ID.fullmatch(second):
        return under
    return replace(whole, perhaps=under) if FOREIGN_ID.fullmatch(second) else whole


def _frame(given: dict[str, Any]) -> Frame:
    kind = given.pop("type", None)
    if not isinstance(kind, str):
        raise InvalidRequestError("type must be a string.", "type")
    if calls.names(kind):
        return calls.parse(kind, given)
    if kind not in FIELDS:
        raise InvalidRequestError(f"There is no type {kind[:64]!r}.", "type")
    return MAKE[kind](fields.checked(kind, given, FIELDS[kind], REQUIRED[kind]))


def _ask(given: dict[str, Any]) -> AskFrame:
    return AskFrame(
        given.pop("conversation_id", None),
        on_disconnect=given.pop("on_disconnect", OnDisconnect.CONTINUE),
        progress=given.pop("progress", False),
        question=fields.question(given),
    )


def _regenerate(given: dict[str, Any]) -> RegenerateFrame:
    given.pop("stream", None)
    return RegenerateFrame(
        given.pop("conversation_id", None),
        on_disconnect=given.pop("on_disconnect", OnDisconnect.CONTINUE),
        progress=given.pop("progress", False),
        again=Regenerate(**fields.with_extra(given)),
    )


def _watched(given: dict[str, Any]) -> str | None:
    """Return which conversation a frame is about, None for all."""
    named: str | None = given.get("conversation_id")
    if (named is None) != given.get("all", False):
        raise InvalidRequestError("Give either conversation_id or all.", "conversation_id")
    return named


def _watch(given: dict[str, Any]) -> WatchFrame:
    named = _watched(given)
    if named is None and "after" in given:
        raise InvalidRequestError("There is no position in all that happens.", "after")
    return WatchFrame(named, given.get("after"), given.get("progress", False))


FIELDS: Mapping[str, Mapping[str, Check]] = {
    "ask": fields.ASK,
    "regenerate": {"message_id": fields.text, **fields.HOW},
    "follow": {"turn_id": fields.text, "after": fields.cursor, "progress": fields.flag},
    "watch": {
        "conversation_id": fields.text,
        "all": fields.flag,
        "after": fields.position,
        "progress": fields.flag,
    },
    "unwatch": {"conversation_id": fields.text, "all": fields.flag},
    "cancel": {"turn_id": fields.text},
    "authenticate": {"api_key": fields.text},
    "ping": {},
}

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ask": (),
    "regenerate": (),
    "follow": ("turn_id",),
    "watch": (),
    "unwatch": (),
    "cancel": ("turn_id",),
    "authenticate": ("api_key",),
    "ping": (),
}

MAKE: Mapping[str, Callable[[dict[str, Any]], Frame]] = {
    "ask": _ask,
    "regenerate": _regenerate,
    "follow": lambda given: FollowFrame(
        given["turn_id"], given.get("after", 0), given.get("progress", False)
    ),
    "watch": _watch,
    "unwatch": lambda given: UnwatchFrame(_watched(given)),
    "cancel": lambda given: CancelFrame(given["turn_id"]),
    "authenticate": lambda given: AuthenticateFrame(given["api_key"]),
    "ping": lambda given: PingFrame(),
}

"""Put what an assistant said into OpenAI's types: its text, and the calls of tools in it."""

from __future__ import annotations

import secrets
from typing import Any

from server.openai_protocol.codec import UNREADABLE, MalformedError, encode


class ToolCalls:
    """The calls of one streamed choice by their numbers; a piece that has none gets its own."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}

    def mend(self, pieces: Any) -> bool:
        """Mend the pieces of calls in one delta; say whether anything was changed."""
        mended = False
        for piece in _listed(pieces):
            if type(piece.get("index")) is not int:
                self._number(piece)
                mended = True
            if piece["index"] not in self._ids:
                mended |= _named(piece)
                self._ids[piece["index"]] = piece["id"]
            mended |= _with_arguments(piece.get("function"), None)
        return mended

    def _number(self, piece: dict[str, Any]) -> None:
        """Give a piece the number of the call that its id names, else of a new one or the last."""
        id_, function = piece.get("id"), piece.get("function")
        there = next((n for n, known in self._ids.items() if known == id_), None)
        last = max(self._ids, default=-1)
        if there is not None:
            piece["index"] = there
            # What is told again would be put behind what was told before.
            del piece["id"]
            if isinstance(function, dict):
                function.pop("name", None)
        elif id_ or last < 0 or (isinstance(function, dict) and function.get("name")):
            piece["index"] = last + 1
        else:
            piece["index"] = last


def mend_calls(message: dict[str, Any]) -> bool:
    """Give the calls of a whole message what their types require; say whether any lacked it."""
    mended = _with_arguments(message.get("function_call"), "{}")
    for call in _listed(message.get("tool_calls") or []):
        mended |= _named(call) | _with_arguments(call.get("function"), "{}")
    return mended


def mend_arguments(delta: dict[str, Any]) -> bool:
    """Make a text of the arguments of a delta's `function_call`."""
    return _with_arguments(delta.get("function_call"), None)


def mend_content(said: dict[str, Any]) -> bool:
    """Make a text of a content that is parts, or a number; null stays."""
    content = said.get("content")
    if content is None or type(content) is str:
        return False
    parts = content if isinstance(content, list) else [content]
    said["content"] = "".join(map(_text, parts))
    return True


def _text(part: Any) -> str:
    """Return the text of a part; a part that is none (a picture, a thought) has no text."""
    match part:
        case str():
            return part
        case dict():
            text = part.get("text")
            return text if isinstance(text, str) else ""
        case None | list():
            return ""
        case _:
            return encode(part).decode()


def _listed(calls: Any) -> list[dict[str, Any]]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise MalformedError(UNREADABLE)
    return calls


def _named(call: dict[str, Any]) -> bool:
    mended = False
    if not (call.get("id") and type(call["id"]) is str):
        call["id"] = f"call_{secrets.token_hex(12)}"
        mended = True
    if not (call.get("type") and type(call["type"]) is str):
        call["type"] = "custom" if "custom" in call else "function"
        mended = True
    return mended


def _with_arguments(function: Any, missing: str | None) -> bool:
    """Make a text of a function's arguments; of none at all, what is said for them."""
    if not isinstance(function, dict):
        return False
    arguments = function.get("arguments")
    if type(arguments) is str or (arguments is None and missing is None):
        return False
    function["arguments"] = missing if arguments is None else encode(arguments).decode()
    return True

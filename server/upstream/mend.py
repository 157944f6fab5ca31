"""Give answers what OpenAI's types require of them, where an upstream has left it out."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from server.upstream.port import UpstreamFailedError

TEXT = "text_completion"
UNREADABLE = "the upstream sent something that cannot be read"
_ENDINGS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
#: other servers' words for an ending; one that is not here is a stop
_REASONS = {"max_tokens": "length", "tool_use": "tool_calls", "safety": "content_filter"}


@dataclass(slots=True)
class Head:
    """What stands at the head of every object of one answer, and is the same in all of them."""

    object: str
    model: str
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def mend(self, answer: dict[str, Any]) -> bool:
        """Fill in what is missing; the answer's own words count. Say whether anything was."""
        mended = False
        if answer.get("object") != self.object:
            answer["object"] = self.object
            mended = True
        if type(answer.get("created")) is not int:
            answer["created"] = self.created
            mended = True
        for name in ("id", "model"):
            value = answer.get(name)
            if type(value) is not str or not value:
                answer[name] = getattr(self, name) or self._new_id()
                mended = True
        self.id = answer["id"]
        return mended

    def _new_id(self) -> str:
        return f"{'cmpl' if self.object == TEXT else 'chatcmpl'}-{secrets.token_hex(12)}"


def parse(data: bytes) -> tuple[dict[str, Any], bool]:
    """Read a JSON object, and say whether its bytes are such as every reader takes.

    Half a surrogate pair, or a number that is none, is let through. Raises UpstreamFailedError.
    """
    good = True
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        good = False
        try:
            answer = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise UpstreamFailedError(UNREADABLE) from None
    if not isinstance(answer, dict):
        raise UpstreamFailedError(UNREADABLE)
    return answer, good


def encode(answer: object) -> bytes:
    """Write JSON; half a surrogate pair, which the fast writer refuses, is escaped."""
    try:
        return orjson.dumps(answer)
    except TypeError:
        return json.dumps(answer, separators=(",", ":")).encode()


def answer(data: bytes, said: dict[str, Any], head: Head, *, good: bool) -> bytes:
    """Return a whole answer fit for OpenAI's types: its own bytes, `data`, where they are.

    `said` and `good` are what `parse` made of them. Raises UpstreamFailedError where there is no
    answer in them.
    """
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamFailedError(UNREADABLE)
    mend_said = _text if head.object == TEXT else _message
    mended = head.mend(said)
    for index, choice in enumerate(choices):
        mended |= mend_choice(choice, index)
        mended |= set_default(choice, "logprobs", None)
        mended |= mend_said(choice) | _ended(choice)
    return encode(said) if mended or not good else data


def mend_choice(choice: Any, index: int) -> bool:
    """Fill in a choice's index, and put its ending in OpenAI's words; None where it goes on."""
    if not isinstance(choice, dict):
        raise UpstreamFailedError(UNREADABLE)
    mended = False
    if type(choice.get("index")) is not int:
        choice["index"] = index
        mended = True
    reason = choice.get("finish_reason")
    if type(reason) is str and reason in _ENDINGS:
        return mended
    if reason or "finish_reason" not in choice or reason is not None:
        choice["finish_reason"] = _REASONS.get(str(reason), "stop") if reason else None
        mended = True
    return mended


def set_default(there: dict[str, Any], name: str, value: Any) -> bool:
    """Put a value where there is none, and say whether there was none."""
    if name in there:
        return False
    there[name] = value
    return True


def _message(choice: dict[str, Any]) -> bool:
    mended = False
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UpstreamFailedError(UNREADABLE)
    for name in ("content", "refusal"):
        mended |= set_default(message, name, None)
    if message.get("role") != "assistant":
        message["role"] = "assistant"
        mended = True
    return mended


def _text(choice: dict[str, Any]) -> bool:
    if not isinstance(choice.get("text"), str):
        raise UpstreamFailedError(UNREADABLE)
    return False


def _ended(choice: dict[str, Any]) -> bool:
    if choice.get("finish_reason") is not None:
        return False
    choice["finish_reason"] = "stop"
    return True

"""See that a whole answer of an upstream is one that OpenAI's clients can read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from server.openai_protocol.codec import UNREADABLE, MalformedError, encode, parse
from server.openai_protocol.normalize import (
    TEXT,
    Head,
    mend_choice,
    mend_logprobs,
    mend_reason,
    mend_usage,
    set_default,
)
from server.openai_protocol.tool_calls import mend_calls, mend_content


@dataclass(frozen=True, slots=True)
class Most:
    """How much of an answer is read: characters of each choice's text, choices, values in values.

    The last are counted before anything is read, since reading holds Python's lock to its end.
    """

    chars: int = sys.maxsize
    choices: int = sys.maxsize
    parts: int = sys.maxsize

    def parse(self, data: bytes) -> tuple[dict[str, Any], bool]:
        """Read a JSON object of no more parts than these; see codec.parse."""
        if data.count(b"{") + data.count(b"[") > self.parts:
            raise MalformedError(f"the upstream's answer has more than {self.parts} parts")
        return parse(data)

    def check_choices(self, count: int) -> None:
        """Raise MalformedError where there are too many choices."""
        if count > self.choices:
            raise MalformedError(f"the upstream's answer has more than {self.choices} choices")


#: where nobody bounds it
ANY = Most()


def fit(data: bytes, said: dict[str, Any], head: Head, *, good: bool, most: Most = ANY) -> bytes:
    """Return a whole answer fit for OpenAI's types: its own bytes, `data`, where they are.

    `said` and `good` are what `parse` made of them. Raises MalformedError where there is no
    answer in them, or more than is read.
    """
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedError(UNREADABLE)
    most.check_choices(len(choices))
    mend_said = _text if head.object == TEXT else _message
    mended = head.mend(said) | mend_usage(said)
    for index, choice in enumerate(choices):
        mended |= mend_choice(choice, index)
        mended |= set_default(choice, "logprobs", None)
        mended |= mend_said(choice) | _ended(choice)
        Length(most.chars).add(text_of(choice))
    mended |= _numbered(choices)
    return encode(said) if mended or not good else data


def _numbered(choices: list[dict[str, Any]]) -> bool:
    """Number choices without a hole, where there is one or two have the same number."""
    if sorted(choice["index"] for choice in choices) == list(range(len(choices))):
        return False
    for index, choice in enumerate(choices):
        choice["index"] = index
    return True


def _message(choice: dict[str, Any]) -> bool:
    mended = False
    message = choice.get("message")
    if message is None and isinstance(choice.get("text"), str):
        message = choice["message"] = {"content": choice.pop("text")}
        mended = True
    if not isinstance(message, dict):
        raise MalformedError(UNREADABLE)
    for name in ("content", "refusal"):
        mended |= set_default(message, name, None)
    if message.get("role") != "assistant":
        message["role"] = "assistant"
        mended = True
    return mended | mend_content(message) | mend_calls(message)


def _text(choice: dict[str, Any]) -> bool:
    if not isinstance(choice.get("text"), str):
        raise MalformedError(UNREADABLE)
    return mend_logprobs(choice)


def text_of(choice: dict[str, Any]) -> str:
    """Return the text of a choice that is fit; of a stream, what a chunk adds to it."""
    said = choice.get("message") or choice.get("delta")
    text = choice.get("text") if said is None else said.get("content")
    return text if isinstance(text, str) else ""


def _ended(choice: dict[str, Any]) -> bool:
    message = choice.get("message") or {}
    otherwise = "function_call" if message.get("function_call") else "stop"
    if message.get("tool_calls"):
        otherwise = "tool_calls"
    mended = mend_reason(choice, otherwise)
    if choice["finish_reason"] is not None:
        return mended
    choice["finish_reason"] = otherwise
    return True


class Length:
    """Counts the characters of one text. Raises MalformedError where there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.found = 0

    def add(self, text: str) -> None:
        self.found += len(text)
        if self.found > self._most:
            told = f"the upstream's answer is longer than {self._most} characters"
            raise MalformedError(told)

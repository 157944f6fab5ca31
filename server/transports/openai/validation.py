"""Validate requests: no upstream is asked what none could answer; null is as good as absent."""

from __future__ import annotations

from typing import Any

from server.openai_protocol import errors
from server.openai_protocol.fields import Fields

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_CHAT_INTEGERS = ("max_completion_tokens", "max_tokens", "n", "seed", "top_logprobs")
_TEXT_INTEGERS = ("best_of", "max_tokens", "n", "seed", "logprobs")
_DECIMALS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
#: Upstreams know best how many they take.
_MOST_STOPS = 1_000
_FAR = float("inf")


def chat(asked: Fields) -> str:
    """Check a chat completion and return its model. Raises RefusedError."""
    named = model(asked)
    if asked.required("messages"):
        asked.text("user")
    for message in asked.parts("messages") or ():
        _message(message)
    _common(asked, _CHAT_INTEGERS)
    for name in ("tools", "functions"):
        _array(asked, name)
    asked.part("response_format")
    asked.flag("logprobs")
    return named


def completion(asked: Fields) -> str:
    """Check a completion and return its model. Raises RefusedError."""
    named = model(asked)
    _input(asked, "prompt")
    _common(asked, _TEXT_INTEGERS)
    asked.flag("echo")
    asked.text("suffix")
    return named


def embedding(asked: Fields) -> str:
    """Check a request for embeddings and return its model. Raises RefusedError."""
    named = model(asked)
    asked.required("input")
    _input(asked, "input")
    asked.one_of("encoding_format", ("float", "base64"))
    asked.integer("dimensions")
    return named


def moderation(asked: Fields) -> str | None:
    """Check a request for a moderation and return its model, if it names one."""
    asked.required("input")
    return asked.text("model")


def model(asked: Fields) -> str:
    """Return the model that a request names. Raises RefusedError where it names none."""
    asked.required("model")
    named = asked.text("model")
    if not named:
        raise errors.missing("model")
    return named


def _common(asked: Fields, integers: tuple[str, ...]) -> None:
    for name in integers:
        asked.integer(name)
    for name in _DECIMALS:
        asked.decimal(name, -_FAR, _FAR)
    asked.flag("stream")
    asked.part("stream_options")
    asked.part("logit_bias")
    asked.texts("stop", _MOST_STOPS)


def _message(message: Fields) -> None:
    message.required("role")
    role = message.one_of("role", _ROLES)
    content = message.raw("content")
    match content:
        case str():
            return
        case list():
            _content(message)
        case None if role in ("assistant", "tool", "function"):
            return
        case None if "content" not in message.values:
            raise errors.missing(message.path("content"))
        case _:
            expected = "one of a string or array of objects"
            raise errors.mistyped(message.path("content"), expected, content)


def _content(message: Fields) -> None:
    """Check the parts of a message; which types there are, upstreams know best."""
    for part in message.parts("content") or ():
        part.required("type")
        if part.text("type") == "text" and part.text("text") is None:
            raise errors.missing(part.path("text"))


def _array(asked: Fields, name: str) -> None:
    value = asked.raw(name)
    if value is not None and not isinstance(value, list):
        raise errors.mistyped(name, "an array of objects", value)


def _input(asked: Fields, name: str) -> None:
    """Check a text, some texts, tokens, or lists of tokens."""
    value = asked.raw(name)
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise errors.mistyped(name, "one of a string or array", value)
    if not value:
        raise errors.empty(name)
    kind = _kind(value[0])
    for number, item in enumerate(value):
        if kind is None or _kind(item) != kind:
            expected = "a string, a token or an array of tokens, as all others"
            raise errors.mistyped(f"{name}[{number}]", expected, item)


def _kind(item: Any) -> str | None:
    match item:
        case str():
            return "text"
        case bool():
            return None
        case int():
            return "token"
        case list() if item and all(type(token) is int for token in item):
            return "tokens"
        case _:
            return None

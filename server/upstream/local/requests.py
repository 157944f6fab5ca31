"""What a chat completion asks of Eliza: read from the request, refused where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.upstream.local.tools import Tools, read_tools
from storage.model import Content, PromptMessage, Role

MOST_CHOICES = 128
MOST_STOPS = 4

_ROLES = {
    "system": Role.SYSTEM,
    "assistant": Role.ASSISTANT,
    "user": Role.USER,
    "function": Role.TOOL,
    "tool": Role.TOOL,
    "developer": Role.SYSTEM,
}
_PARTS = ("text", "image_url", "input_audio", "refusal", "audio", "file")
#: Roles whose messages may be without content.
_SILENT = ("assistant", "tool", "function")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
_FORMATS = ("json_object", "json_schema", "text")
_FORMAT_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """JSON is wanted: that fits a schema, or just any object where `schema` is None."""

    name: str = ""
    schema: Any = None


@dataclass(frozen=True, slots=True)
class Options:
    """What chats and text completions may ask alike. `limit` is in tokens of each choice."""

    model: str
    n: int
    limit: int | None
    stop: tuple[str, ...]
    seed: int | None
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion that can be answered; `sent` are its messages as they came."""

    options: Options
    sent: tuple[Mapping[str, Any], ...]
    prompt: tuple[PromptMessage, ...]
    tools: Tools
    format: ResponseFormat | None
    tier: str


def read_chat(asked: Fields, model: str | None) -> ChatRequest:
    """Read a request; `model` is the one that its path names. Raises RefusedError."""
    limit = asked.integer("max_completion_tokens", 0)
    if limit and asked.integer("max_tokens"):
        raise ApiError(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    # Some clients mean no limit by 0.
    options = read_options(asked, model, limit or asked.integer("max_tokens", 0) or None)
    asked.required("messages")
    messages = asked.parts("messages") or []
    prompt = tuple(map(_message, messages))
    _check_unspoken(asked)
    tier = asked.one_of("service_tier", _TIERS)
    return ChatRequest(
        options=options,
        sent=tuple(message.values for message in messages),
        prompt=prompt,
        tools=read_tools(asked),
        format=_format(asked.part("response_format")),
        tier={"fast": "priority", "auto": "default", None: "default"}.get(tier, tier or ""),
    )


def read_options(asked: Fields, model: str | None, limit: int | None) -> Options:
    """Read what chats and text completions have in common. Raises RefusedError."""
    named = asked.text("model") or model
    if not named:
        raise errors.missing("model")
    for name, least, most in (("temperature", 0, 2), ("top_p", 0, 1)):
        asked.decimal(name, least, most)
    for name in ("presence_penalty", "frequency_penalty"):
        asked.decimal(name, -2, 2)
    asked.part("logit_bias")
    stream = asked.flag("stream")
    told = asked.part("stream_options")
    if told and not stream:
        raise ApiError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    return Options(
        model=named,
        n=asked.integer("n", 1, MOST_CHOICES) or 1,
        limit=limit,
        stop=asked.texts("stop", MOST_STOPS),
        seed=asked.integer("seed"),
        stream=stream,
        include_usage=told is not None and told.flag("include_usage"),
    )


def _check_unspoken(asked: Fields) -> None:
    """Refuse what Eliza has not got: a voice. Probabilities of tokens are null in her answers."""
    asked.flag("logprobs")
    asked.integer("top_logprobs", 0, 20)
    if any(name != "text" for name in asked.texts("modalities", 2)):
        raise errors.unsupported("modalities")


def _message(message: Fields) -> PromptMessage:
    message.required("role")
    role = message.one_of("role", tuple(_ROLES)) or ""
    if role == "tool":
        message.required("tool_call_id")
    message.parts("tool_calls")
    message.part("function_call")
    return PromptMessage(_ROLES[role], _content(message, role), message.text("name"))


def _content(message: Fields, role: str) -> Content:
    content = message.raw("content")
    match content:
        case str():
            return content
        case list():
            return [_part(part) for part in message.parts("content") or ()]
        case None if role in _SILENT:
            return ""
        case None if "content" not in message.values:
            raise errors.missing(message.path("content"))
        case _:
            expected = "one of a string or array of objects"
            raise errors.mistyped(message.path("content"), expected, content)


def _part(part: Fields) -> Mapping[str, Any]:
    part.required("type")
    kind = part.one_of("type", _PARTS)
    if kind == "text":
        part.text("text")
        if part.raw("text") is None:
            raise errors.missing(part.path("text"))
    if kind == "image_url":
        part.required("image_url")
    return part.values


def _format(asked: Fields | None) -> ResponseFormat | None:
    if asked is None:
        return None
    asked.required("type")
    kind = asked.one_of("type", _FORMATS)
    if kind == "text":
        return None
    if kind == "json_object":
        return ResponseFormat()
    asked.required("json_schema")
    told = asked.part("json_schema")
    assert told is not None  # noqa: S101 - required just now
    told.required("name")
    name = told.text("name") or ""
    if not _FORMAT_NAME.fullmatch(name):
        raise errors.misnamed(told.path("name"))
    schema = told.raw("schema")
    return ResponseFormat(name, _ANY_OBJECT if schema is None else schema)

"""Chat completions as Eliza answers them: text, JSON that fits a schema, or a tool called."""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import orjson

from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.tokens.models import model
from server.tokens.request import prompt_tokens, text_tokens, usage
from server.upstream.local.eliza.eliza import reply
from server.upstream.local.eliza.script import Script
from server.upstream.local.json_schema.document import UnfitError
from server.upstream.local.json_schema.generate import fitting
from server.upstream.local.json_schema.vocabulary import Words, words_of
from server.upstream.local.requests import ChatRequest, Options, ResponseFormat
from server.upstream.local.tools import CUSTOM, FUNCTION, Tool, arguments
from server.upstream.local.truncation import cut, pieces
from storage.model import PromptMessage, Role, text_of

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice: a text, or what `tool` is called with; `tokens` counts it."""

    text: str
    reason: str
    tokens: int
    tool: Tool | None = None
    call_id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A chat completion answered, and what stands at the head of every object of it."""

    chat: ChatRequest
    choices: tuple[Choice, ...]
    prompt_tokens: int
    fingerprint: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(14)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def words(self) -> int:
        """Return how many pieces the longest choice is spoken in."""
        return max(len(pieces(said.text)) for said in self.choices)


def answer(chat: ChatRequest, script: Script, fingerprint: str) -> ChatAnswer:
    """Answer a chat; this takes time with long ones. Raises RefusedError."""
    options = chat.options
    tools = [tool.about for tool in chat.tools.offered]
    tokens = prompt_tokens(options.model, chat.sent, tools)
    window = model(options.model).window
    if tokens > window:
        raise errors.overflow(window, tokens)
    said = tuple(_said(chat, script, turn) for turn in range(options.n))
    return ChatAnswer(chat, said, tokens, fingerprint)


def text(prompt: tuple[PromptMessage, ...], options: Options, turn: int, script: Script) -> str:
    """Return Eliza's answer; another turn chooses another, from the newest message alone."""
    if turn == 0:
        return reply(prompt, options.seed, script)
    newest = [message for message in prompt if message.role is Role.USER][-1:]
    seed = zlib.crc32(f"{options.seed}:{turn}".encode())
    return reply(newest, seed, script)


def _said(chat: ChatRequest, script: Script, turn: int) -> Choice:
    options = chat.options
    spoken = text(chat.prompt, options, turn, script)
    if not chat.tools.forced and chat.format is None:
        short = cut(spoken, options.model, options.limit, options.stop)
        return Choice(short.text, short.reason, short.tokens)
    heard = [text_of(message.content) for message in chat.prompt if message.role is Role.USER]
    words = words_of(heard, spoken)
    tool = chat.tools.chosen(words)
    if tool is not None:
        short = cut(arguments(tool, words, turn), options.model, options.limit)
        called = "function_call" if chat.tools.of_old else "tool_calls"
        tokens = short.tokens + text_tokens(options.model, tool.name)
        return Choice(short.text, called if short.reason == "stop" else "length", tokens, tool)
    short = cut(_json(chat.format or ResponseFormat(), words, turn), options.model, options.limit)
    return Choice(short.text, short.reason, short.tokens)


def _json(asked: ResponseFormat, words: Words, turn: int) -> str:
    if asked.schema is None:
        return orjson.dumps({"answer": words.answer}).decode()
    try:
        return orjson.dumps(fitting(asked.schema, words, turn)).decode()
    except UnfitError as error:
        raise ApiError(
            f"Invalid schema for response_format '{asked.name}': {error}.", "response_format"
        ) from error


def whole(answered: ChatAnswer) -> bytes:
    """Return an answer in one piece."""
    choices = [
        {
            "index": index,
            "message": _message(said, of_old=answered.chat.tools.of_old),
            "logprobs": None,
            "finish_reason": said.reason,
        }
        for index, said in enumerate(answered.choices)
    ]
    head = _head(answered, "chat.completion")
    return orjson.dumps({**head, "choices": choices, "usage": _usage(answered)})


def rounds(answered: ChatAnswer) -> Iterator[list[bytes]]:
    """Yield an answer's events: the opening, then a word of each choice at a time, then the end."""
    of_old = answered.chat.tools.of_old
    choices = list(enumerate(answered.choices))
    yield [_event(answered, at, delta) for at, said in choices for delta in _opening(said, of_old)]
    spoken = [pieces(said.text) for said in answered.choices]
    for words in zip_longest(*spoken):
        yield [
            _event(answered, at, _delta(answered.choices[at], word, of_old))
            for at, word in enumerate(words)
            if word is not None
        ]
    ends = [_event(answered, at, {}, said.reason) for at, said in choices]
    if answered.chat.options.include_usage:
        head = _head(answered, "chat.completion.chunk")
        ends.append(_line({**head, "choices": [], "usage": _usage(answered)}))
    yield [*ends, DONE]


def _message(said: Choice, *, of_old: bool) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if said.tool else said.text,
        "refusal": None,
        "annotations": [],
    }
    if said.tool is None:
        return message
    if of_old:
        return {**message, "function_call": {"name": said.tool.name, "arguments": said.text}}
    return {**message, "tool_calls": [_call(said, said.tool, said.text)]}


def _call(said: Choice, tool: Tool, text: str) -> dict[str, Any]:
    given = "input" if tool.kind == CUSTOM else "arguments"
    return {"id": said.call_id, "type": tool.kind, tool.kind: {"name": tool.name, given: text}}


def _opening(said: Choice, of_old: bool) -> Iterator[dict[str, Any]]:
    """Yield the deltas before the first word; content is never null in one."""
    yield {"role": "assistant", "content": "", "refusal": None}
    if said.tool is not None and of_old:
        yield {"function_call": {"name": said.tool.name, "arguments": ""}}
    elif said.tool is not None:
        yield {"tool_calls": [{"index": 0, **_call(said, said.tool, "")}]}


def _delta(said: Choice, word: str, of_old: bool) -> dict[str, Any]:
    match said.tool:
        case None:
            return {"content": word}
        case _ if of_old:
            return {"function_call": {"arguments": word}}
        case Tool(kind=kind):
            given = "arguments" if kind == FUNCTION else "input"
            return {"tool_calls": [{"index": 0, kind: {given: word}}]}


def _event(
    answered: ChatAnswer, index: int, delta: Mapping[str, Any], reason: str | None = None
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    chunk = {**_head(answered, "chat.completion.chunk"), "choices": [choice]}
    if answered.chat.options.include_usage:
        chunk["usage"] = None
    return _line(chunk)


def _line(chunk: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)


def _head(answered: ChatAnswer, kind: str) -> dict[str, Any]:
    return {
        "id": answered.id,
        "object": kind,
        "created": answered.created,
        "model": answered.chat.options.model,
        "service_tier": answered.chat.tier,
        "system_fingerprint": answered.fingerprint,
    }


def _usage(answered: ChatAnswer) -> dict[str, Any]:
    return usage(answered.prompt_tokens, sum(said.tokens for said in answered.choices))

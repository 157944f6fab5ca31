"""Make text completions from the answers of a chat model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from server.core.passthrough import Passthrough
from server.openai_protocol import errors
from server.openai_protocol.codec import encode, parse
from server.openai_protocol.fields import Fields
from server.openai_protocol.sse import data_of, one_by_one
from server.openai_protocol.stream import DONE
from server.tokens.encoding import UnknownTokenError, encoding
from server.tokens.models import model
from server.transports.openai.chat.stored import OURS
from server.transports.openai.exchange import Exchange
from server.transports.openai.upstream_json import beside, hear, refuse_bad
from server.upstream.bodies import EVENTS, after
from server.upstream.port import Reply

#: what has no meaning in a chat, or another one, and what is ours to say; all else is passed on
_OWN = frozenset(
    (
        "best_of",
        "echo",
        "logprobs",
        "max_tokens",
        "messages",
        "model",
        "prompt",
        "stream",
        "stream_options",
        "suffix",
        *OURS,
    )
)
_MOST_PROMPTS = 128
_AT_ONCE = 8
_BETWEEN = "Write the text that stands between the user's text and this one, which follows it:\n\n"
_HEAD = ("model", "system_fingerprint")
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(slots=True)
class _Made:
    """One completion in the making."""

    model: str
    prompts: list[str]
    echo: bool
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    usage: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_USAGE, 0))
    #: a stream that will tell its usage says in each chunk before that there is none yet
    tells_usage: bool = False
    #: what the first of the chats said of itself, and the headers it came with
    head: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: how many choices the prompts before this one have: some upstreams give one, whatever `n` is
    before: int = 0
    #: an error was told; nothing may follow
    failed: bool = False

    def envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **self.head,
        }

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self.envelope(choices) | ({"usage": None} if self.tells_usage else {})

    def hear(self, answer: Mapping[str, Any]) -> None:
        """Take the head of a chat's answer, or of a chunk of it; the first that has one counts."""
        for name in _HEAD:
            if answer.get(name):
                self.head.setdefault(name, answer[name])

    def spend(self, usage: object) -> None:
        if isinstance(usage, dict):
            _add(self.usage, usage)

    def choice(self, said: dict[str, Any], text: str, offset: int) -> dict[str, Any]:
        """Return a choice of this prompt's chat as one of the completion.

        `offset` is where its text begins in the whole text.
        """
        return {
            "index": self.before + said["index"],
            "text": text,
            "logprobs": _logprobs(said.get("logprobs"), offset),
            "finish_reason": _reason(said.get("finish_reason")),
        }


class FromChat:
    """Asks one chat completion for each prompt of a completion."""

    def __init__(self, passthrough: Passthrough) -> None:
        self._passthrough = passthrough

    async def ask(
        self, exchange: Exchange, asked: Fields
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Return a whole completion, and the headers that came with the first of its chats.

        Raises PassedOnError for the upstream's refusal.
        """
        made = self._made(asked)
        places = asyncio.Semaphore(_AT_ONCE)

        async def answer(prompt: str) -> tuple[dict[str, Any], dict[str, str]]:
            async with places:
                body = self._chat(asked, made, prompt)
                return await hear(
                    self._passthrough, exchange.request.made("/chat/completions", body)
                )

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(prompt)) for prompt in made.prompts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        choices = []
        for number, task in enumerate(tasks):
            told, _ = task.result()
            made.hear(told)
            made.spend(told.get("usage"))
            prefix = made.prompts[number] if made.echo else ""
            for said in told["choices"]:
                text = prefix + (said["message"].get("content") or "")
                choices.append(made.choice(said, text, len(prefix)))
            made.before += len(told["choices"])
        return {**made.envelope(choices), "usage": made.usage}, tasks[0].result()[1]

    async def stream(self, exchange: Exchange, asked: Fields) -> None:
        """Answer with a whole completion, event by event, prompt after prompt."""
        made = self._made(asked)
        options = asked.part("stream_options")
        made.tells_usage = options is not None and options.flag("include_usage")
        async with aclosing(self._events(exchange, asked, made)) as events:
            first = await anext(events)
            headers = {**made.headers, "content-type": EVENTS}
            reply = Reply(200, headers, after(first, events))
            await exchange.relay(reply, spoken=True)

    async def _events(
        self, exchange: Exchange, asked: Fields, made: _Made
    ) -> AsyncGenerator[bytes, None]:
        for number, prompt in enumerate(made.prompts):
            body = {**self._chat(asked, made, prompt), "stream": True}
            if made.tells_usage:
                body["stream_options"] = {"include_usage": True}
            call = exchange.request.made("/chat/completions", body, stream=True)
            async with self._passthrough.call(call) as reply:
                await refuse_bad(reply)
                made.headers = made.headers or beside(reply)
                async for event in _retold(reply.body, made, number):
                    yield event
            if made.failed:
                return
        if made.tells_usage:
            yield _event({**made.envelope([]), "usage": made.usage})
        yield DONE

    def _made(self, asked: Fields) -> _Made:
        named = str(asked.raw("model"))
        own = self._passthrough.first(named).own_name(named) or named
        prompts = _prompts(asked.raw("prompt"), own)
        if len(prompts) > _MOST_PROMPTS:
            raise errors.overlong("prompt", _MOST_PROMPTS, len(prompts))
        return _Made(named, prompts, asked.flag("echo"))

    def _chat(self, asked: Fields, made: _Made, prompt: str) -> dict[str, Any]:
        """Return the chat completion that continues a prompt."""
        messages = [{"role": "user", "content": prompt}]
        if suffix := asked.text("suffix"):
            messages.insert(0, {"role": "system", "content": _BETWEEN + suffix})
        said = asked.values.items()
        body = {name: value for name, value in said if name not in _OWN and value is not None}
        body |= {"model": made.model, "messages": messages}
        if (most := asked.integer("max_tokens")) is not None:
            body[self._passthrough.first(made.model).limit_name] = most
        if (logprobs := asked.integer("logprobs")) is not None:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        return body


def _prompts(prompt: Any, named: str) -> list[str]:
    """Return the texts of a prompt, which may be a text, tokens, or several of either."""
    match prompt:
        case None:
            return [""]
        case str():
            return [prompt]
        case [int(), *_]:
            return [_text(prompt, named)]
        case _:
            return [one if isinstance(one, str) else _text(one, named) for one in prompt]


def _text(tokens: list[int], named: str) -> str:
    try:
        return encoding(model(named).encoding).decode(tokens)
    except UnknownTokenError as error:
        raise errors.ApiError(f"Invalid 'prompt': {error}.", "prompt") from None


async def _retold(body: AsyncIterator[bytes], made: _Made, number: int) -> AsyncIterator[bytes]:
    """Yield a chat's events as those of the completion of one prompt."""
    offsets: dict[int, int] = {}
    prompt = made.prompts[number] if made.echo else ""
    usage: object = None
    async for event in one_by_one(body):
        data = data_of(event)
        if data.startswith(b"[DONE]"):
            break
        chunk, _ = parse(data)
        if "error" in chunk:
            made.failed = True
            yield event
            return
        made.hear(chunk)
        usage = chunk.get("usage") or usage
        choices = []
        for said in chunk["choices"]:
            begins = said["index"] not in offsets
            prefix = prompt if begins else ""
            text = said["delta"].get("content") or ""
            offset = offsets.get(said["index"], len(prefix))
            offsets[said["index"]] = offset + len(text)
            if prefix or text or said.get("finish_reason"):
                choices.append(made.choice(said, prefix + text, offset))
        if choices:
            yield _event(made.chunk(choices))
    made.before += max(offsets, default=-1) + 1
    made.spend(usage)


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % encode(payload)


def _add(into: dict[str, Any], more: Mapping[str, Any], *, details: bool = True) -> None:
    """Add counts to counts of the same names, and their details to details."""
    for name, value in more.items():
        there = into.get(name)
        if details and isinstance(value, dict):
            into[name] = there if isinstance(there, dict) else {}
            _add(into[name], value, details=False)
        elif type(value) is int:
            into[name] = value + (there if type(there) is int else 0)


def _reason(reason: str | None) -> str | None:
    return "stop" if reason in ("tool_calls", "function_call") else reason


def _logprobs(logprobs: Any, offset: int) -> dict[str, Any] | None:
    """Return a chat's log probabilities in the shape of a completion's."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {other["token"]: other["logprob"] for other in token.get("top_logprobs", ())}
            for token in tokens
        ],
        "text_offset": offsets,
    }

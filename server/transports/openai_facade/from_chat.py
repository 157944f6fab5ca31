"""Make text completions from the answers of a chat model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from server.transports.openai_facade.asking import ask, refuse_bad
from server.transports.openai_facade.visit import Visit
from server.upstream import refusals
from server.upstream.bodies import EVENTS, after
from server.upstream.chunks import DONE
from server.upstream.cut import data_of
from server.upstream.encoding import UnknownTokenError, encoding
from server.upstream.fields import Fields
from server.upstream.mend import encode, parse
from server.upstream.models import model
from server.upstream.port import Reply
from server.upstream.upstreams import Upstreams

#: what a completion and a chat completion have in common
_SAME = (
    "frequency_penalty",
    "logit_bias",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "temperature",
    "top_p",
    "user",
)
_MOST_PROMPTS = 128
_AT_ONCE = 8
_BETWEEN = "Write the text that stands between the user's text and this one, which follows it:\n\n"
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(slots=True)
class _Made:
    """One completion in the making."""

    model: str
    prompts: list[str]
    echo: bool
    choices_each: int
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    usage: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_USAGE, 0))
    #: an error was told; nothing may follow
    failed: bool = False

    def envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def spend(self, usage: object) -> None:
        if isinstance(usage, dict):
            for name in _USAGE:
                self.usage[name] += int(usage.get(name) or 0)

    def choice(self, prompt: int, said: dict[str, Any], text: str, offset: int) -> dict[str, Any]:
        """Return a choice of a chat as one of the completion of a prompt, by the prompt's number.

        `offset` is where its text begins in the whole text.
        """
        return {
            "index": prompt * self.choices_each + said["index"],
            "text": text,
            "logprobs": _logprobs(said.get("logprobs"), offset),
            "finish_reason": _reason(said.get("finish_reason")),
        }


class FromChat:
    """Asks one chat completion for each prompt of a completion."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def ask(self, visit: Visit, asked: Fields) -> dict[str, Any]:
        """Return a whole completion. Raises PassedOnError for the upstream's refusal."""
        made = _made(asked)
        places = asyncio.Semaphore(_AT_ONCE)

        async def answer(prompt: str) -> dict[str, Any]:
            async with places:
                body = self._chat(asked, made, prompt)
                return await ask(self._upstreams, visit.made("/chat/completions", body))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(prompt)) for prompt in made.prompts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        choices = []
        for number, task in enumerate(tasks):
            made.spend(task.result().get("usage"))
            prefix = made.prompts[number] if made.echo else ""
            for said in task.result()["choices"]:
                text = prefix + (said["message"].get("content") or "")
                choices.append(made.choice(number, said, text, len(prefix)))
        return {**made.envelope(choices), "usage": made.usage}

    async def stream(self, visit: Visit, asked: Fields) -> None:
        """Answer with a whole completion, event by event, prompt after prompt."""
        made = _made(asked)
        options = asked.part("stream_options")
        usage = options is not None and options.flag("include_usage")
        async with aclosing(self._events(visit, asked, made, usage=usage)) as events:
            first = await anext(events)
            reply = Reply(200, {"content-type": EVENTS}, after(first, events))
            await visit.relay(reply, spoken=True)

    async def _events(
        self, visit: Visit, asked: Fields, made: _Made, *, usage: bool
    ) -> AsyncGenerator[bytes, None]:
        for number, prompt in enumerate(made.prompts):
            body = {**self._chat(asked, made, prompt), "stream": True}
            if usage:
                body["stream_options"] = {"include_usage": True}
            call = visit.made("/chat/completions", body, stream=True)
            async with self._upstreams.call(call) as reply:
                await refuse_bad(reply)
                async for event in _retold(reply.body, made, number):
                    yield event
            if made.failed:
                return
        if usage:
            yield _event({**made.envelope([]), "usage": made.usage})
        yield DONE

    def _chat(self, asked: Fields, made: _Made, prompt: str) -> dict[str, Any]:
        """Return the chat completion that continues a prompt."""
        messages = [{"role": "user", "content": prompt}]
        if suffix := asked.text("suffix"):
            messages.insert(0, {"role": "system", "content": _BETWEEN + suffix})
        body: dict[str, Any] = {"model": made.model, "messages": messages}
        body |= {name: asked.raw(name) for name in _SAME if asked.raw(name) is not None}
        if (most := asked.integer("max_tokens")) is not None:
            body[self._upstreams.first(made.model).limit_name] = most
        if (logprobs := asked.integer("logprobs")) is not None:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        return body


def _made(asked: Fields) -> _Made:
    named = str(asked.raw("model"))
    prompts = _prompts(asked.raw("prompt"), named)
    if len(prompts) > _MOST_PROMPTS:
        raise refusals.overlong("prompt", _MOST_PROMPTS, len(prompts))
    return _Made(named, prompts, asked.flag("echo"), asked.integer("n") or 1)


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
        raise refusals.RefusedError(f"Invalid 'prompt': {error}.", "prompt") from None


async def _retold(body: AsyncIterator[bytes], made: _Made, number: int) -> AsyncIterator[bytes]:
    """Yield a chat's events as those of the completion of one prompt."""
    offsets: dict[int, int] = {}
    prompt = made.prompts[number] if made.echo else ""
    async for event in body:
        data = data_of(event)
        if data.startswith(b"[DONE]"):
            return
        chunk, _ = parse(data)
        if "error" in chunk:
            made.failed = True
            yield event
            return
        made.spend(chunk.get("usage"))
        choices = []
        for said in chunk["choices"]:
            begins = said["index"] not in offsets
            prefix = prompt if begins else ""
            text = said["delta"].get("content") or ""
            offset = offsets.get(said["index"], len(prefix))
            offsets[said["index"]] = offset + len(text)
            if prefix or text or said.get("finish_reason"):
                choices.append(made.choice(number, said, prefix + text, offset))
        if choices:
            yield _event(made.envelope(choices))


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % encode(payload)


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

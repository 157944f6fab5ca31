"""Characters and templates under `/v1`: fields of ours that no upstream is to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from server.core.conversations import Conversations
from server.core.errors import InvalidRequestError
from server.core.passthrough import Passthrough
from server.core.prompt.characters import Character, Mode
from server.openai_protocol.fields import Fields
from server.templates.template import Template, TemplateError, stops
from server.transports.openai import validation
from server.transports.openai.chat import from_completion
from server.transports.openai.exchange import Exchange
from server.transports.openai.upstream_json import ask, refuse_bad
from server.upstream.bodies import EVENTS, after
from server.upstream.port import Reply
from storage.model import PromptMessage, Role

OURS = frozenset(("mode", "character", "instruction_template", "prompt_template"))
#: what only a chat has, and a completion is not asked for
_OF_CHAT = frozenset(
    (
        "messages",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "tool_choice",
        "function_call",
        "parallel_tool_calls",
        "modalities",
        "reasoning_effort",
        "store",
        "metadata",
        "verbosity",
    )
)
#: what cannot be had of a model that continues a text
_NEVER = ("tools", "functions", "store")
_ROLES = {"developer": Role.SYSTEM, "function": Role.TOOL}
_SYSTEMS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a request says of characters and templates."""

    mode: Mode | None
    character: str | None
    instruction_template: str | None
    prompt_template: str | None


def concerns(asked: Fields) -> bool:
    """Say whether a request has any field of ours."""
    return not OURS.isdisjoint(asked.values)


class Shaped:
    """Turns requests that have fields of ours into such as upstreams understand."""

    def __init__(self, passthrough: Passthrough, conversations: Conversations) -> None:
        self._passthrough = passthrough
        self._characters = conversations.characters
        self._counting = conversations.counting

    async def chat(self, exchange: Exchange, asked: Fields) -> Fields | None:
        """Return a chat without fields of ours, for an upstream that chats.

        None where it was answered: written as one text, completed, and told as a chat.
        """
        expected = _wish(asked)
        character = self._characters.character(expected)
        asked = _without_ours(asked, character)
        model = validation.chat(asked)
        asked = _joined_by(asked, character)
        template = await self._characters.template(expected, model)
        if template is None:
            return asked
        for name in _NEVER:
            if asked.raw(name):
                raise InvalidRequestError(f"{name} cannot be had with a template.", name)
        if "x-conversation-id" in exchange.request.headers:
            raise InvalidRequestError(
                "Templates cannot be used with X-Conversation-Id.", template.param or "mode"
            )
        text = await _rendered(template, _messages(asked))
        if self._passthrough.first(model).local:
            return asked  # Eliza hears words, and needs no template to tell whose they are
        await self._complete(exchange, await self._completion(asked, model, text, template))
        return None

    async def completion(self, asked: Fields) -> Fields:
        """Return a completion without fields of ours, its prompt written by a template."""
        expected = _wish(asked)
        character = self._characters.character(expected)
        asked = _without_ours(asked, character)
        model = validation.completion(asked)
        if expected in (_Wish(None, None, None, None), _Wish(Mode.CHAT, None, None, None)):
            return asked
        template = await self._characters.template(replace(expected, mode=Mode.INSTRUCT), model)
        assert template is not None  # noqa: S101 - that mode has one always
        first = [PromptMessage(Role.SYSTEM, character.system_prompt or "")]
        first.append(PromptMessage(Role.ASSISTANT, character.greeting or ""))
        said = [one for one in first if one.content]
        texts = [
            await _rendered(template, [*said, PromptMessage(Role.USER, prompt)])
            for prompt in _prompts(asked)
        ]
        if self._passthrough.first(model).local:
            return asked
        prompt = texts if isinstance(asked.raw("prompt"), list) else texts[0]
        return Fields({**asked.values, "prompt": prompt, **_stops(asked, template)})

    async def _completion(
        self, asked: Fields, model: str, text: str, template: Template
    ) -> dict[str, Any]:
        """Return the completion whose continuation is a chat's answer."""
        body = {name: value for name, value in asked.values.items() if name not in _OF_CHAT}
        body |= {"prompt": text, **_stops(asked, template)}
        most = asked.integer("max_completion_tokens") or asked.integer("max_tokens")
        # Without one, OpenAI completes 16 tokens.
        body["max_tokens"] = most or await self._counting.room(model, text)
        if asked.flag("logprobs"):
            body["logprobs"] = asked.integer("top_logprobs") or 0
        return body

    async def _complete(self, exchange: Exchange, body: dict[str, Any]) -> None:
        if not body.get("stream"):
            answer = await ask(self._passthrough, exchange.request.made("/completions", body))
            await exchange.answer(from_completion.whole(answer))
            return
        async with aclosing(self._events(exchange, body)) as events:
            first = await anext(events)
            reply = Reply(200, {"content-type": EVENTS}, after(first, events))
            await exchange.relay(reply, spoken=True)

    async def _events(
        self, exchange: Exchange, body: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        call = exchange.request.made("/completions", body, stream=True)
        async with self._passthrough.call(call) as reply:
            await refuse_bad(reply)
            async for event in from_completion.Retold().events(reply.body):
                yield event


def _wish(asked: Fields) -> _Wish:
    mode = asked.one_of("mode", tuple(Mode))
    return _Wish(
        mode=None if mode is None else Mode(mode),
        character=asked.text("character"),
        instruction_template=asked.text("instruction_template"),
        prompt_template=asked.text("prompt_template"),
    )


def _without_ours(asked: Fields, character: Character) -> Fields:
    values = {name: value for name, value in asked.values.items() if name not in OURS}
    if character.model is not None and values.get("model") is None:
        values["model"] = character.model
    return Fields(values)


def _joined_by(asked: Fields, character: Character) -> Fields:
    """Return a chat with what a character is told put first, and what it says at its beginning."""
    messages = list(asked.raw("messages"))
    roles = [message["role"] for message in messages]
    if character.greeting and "assistant" not in roles and "user" in roles:
        greeting = {"role": "assistant", "content": character.greeting}
        messages.insert(roles.index("user"), greeting)
    if character.system_prompt and not set(roles) & set(_SYSTEMS):
        messages.insert(0, {"role": "system", "content": character.system_prompt})
    return Fields({**asked.values, "messages": messages})


def _messages(asked: Fields) -> list[PromptMessage]:
    """Return the messages of a chat; what is no text cannot be written as text."""
    messages = []
    for said in asked.parts("messages") or ():
        role, content = str(said.raw("role")), said.raw("content") or ""
        if not isinstance(content, str) and any(part["type"] != "text" for part in content):
            raise InvalidRequestError("A template takes text only.", said.path("content"))
        messages.append(PromptMessage(_ROLES.get(role) or Role(role), content))
    return messages


def _prompts(asked: Fields) -> Sequence[str]:
    match asked.raw("prompt"):
        case None:
            return [""]
        case str() as prompt:
            return [prompt]
        case [str(), *_] as prompts:
            return [str(prompt) for prompt in prompts]
    raise InvalidRequestError("A template takes text, not tokens.", "prompt")


async def _rendered(template: Template, messages: Sequence[PromptMessage]) -> str:
    try:
        if template.quick:
            return template.render(messages)
        return await asyncio.to_thread(template.render, messages)
    except TemplateError as error:
        raise InvalidRequestError(str(error), template.param) from None


def _stops(asked: Fields, template: Template) -> dict[str, Any]:
    own = asked.texts("stop", 1_000)
    found = stops(own, template) if template.stops else list(own)
    return {"stop": found} if found else {}

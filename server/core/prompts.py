"""Composes what is sent upstream: system prompt, what fits of the history, question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from server.core.context import Weighed, Window, trim
from server.core.errors import ContextLengthError
from server.upstream import counting, template
from server.upstream.encoding import Encoding, encoding
from server.upstream.models import Model, budget, model, reserve
from server.upstream.port import PromptMessage
from storage.model import Content, Message, Role, Sent
from storage.port import Store

#: Longer texts are counted on a thread (tiktoken lets go of the GIL), shorter ones at once.
COUNT_AT_ONCE = 20_000
#: How many messages a step up the tree reads.
STEP = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says about counting, for all models; None: the model's own."""

    encoding: str | None = None
    window: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Composed:
    """What is sent, oldest first and the question last, and what that comes to."""

    system_prompt: str | None
    messages: tuple[PromptMessage, ...]
    kept: Sequence[Weighed]
    question_tokens: int
    encoding: str
    window: Window
    sent: Sent


class Prompts:
    """Counts in the model's encoding and reads no more of a history than fits its window."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def encoding_of(self, model_name: str) -> Encoding:
        return encoding(self._settings.encoding or model(model_name).encoding)

    async def count(self, model_name: str, content: Content) -> int:
        """Return the tokens of a content alone, in the model's encoding."""
        return await _Scale(model(model_name), self.encoding_of(model_name)).count(content)

    def window(self, of: Model, max_tokens: int | None) -> Window:
        """Return the window and what of it a prompt may use; `max_tokens` is the caller's."""
        size = self._settings.window or of.window
        reserved = max_tokens or self._settings.max_tokens or reserve(of, size)
        return Window(size, reserved, max(0, budget(of, window=size, reserve=reserved)))

    async def compose(
        self,
        owner: str,
        conversation_id: str,
        parent_id: str | None,
        content: Content,
        *,
        model_name: str,
        system_prompt: str | None,
        max_tokens: int | None,
    ) -> Composed:
        """Compose the prompt for a question under `parent_id`. Raises ContextLengthError."""
        scale = _Scale(model(model_name), self.encoding_of(model_name))
        window = self.window(scale.model, max_tokens)
        tokens = await scale.count(content)
        fixed = scale.priming + scale.cost(Role.USER, content, tokens)
        if system_prompt:
            system_tokens = await scale.count(system_prompt)
            fixed += scale.cost(Role.SYSTEM, system_prompt, system_tokens)
        room = window.budget - fixed
        if room < 0:
            raise _too_long(window, fixed)
        history = [w async for w in self._history(owner, conversation_id, parent_id, scale, room)]
        return _composed(scale, window, system_prompt, content, tokens, fixed, history, room)

    async def _history(
        self, owner: str, conversation_id: str, leaf: str | None, scale: _Scale, room: int
    ) -> AsyncIterator[Weighed]:
        """Walk up from `leaf` until the room is full, and one message on: trim needs to see it."""
        while leaf is not None and room >= 0:
            step = await self._store.branch(
                owner, conversation_id, leaf, limit=STEP, tokens=max(0, room)
            )
            for message in step:
                weighed = await scale.weigh(message)
                room -= weighed.cost
                yield weighed
            leaf = step[-1].parent_id


class _Scale:
    """Weighs messages in one model's encoding and shape."""

    def __init__(self, of: Model, encoding: Encoding) -> None:
        self.model = of
        self.encoding = encoding
        self._shape = counting.shape(of.name)
        self.priming = self._shape.priming

    def cost(self, role: Role, content: Content, tokens: int) -> int:
        return counting.message_cost(self._shape, self.encoding, role, content, tokens=tokens)

    async def count(self, content: Content) -> int:
        if isinstance(content, str) and len(content) <= COUNT_AT_ONCE:
            return self.encoding.count(content)
        return await asyncio.to_thread(
            counting.content_tokens, self.encoding, content, self._shape.images
        )

    async def weigh(self, message: Message) -> Weighed:
        # What is kept was counted once, when it was written; an image weighs by model.
        tokens = message.tokens
        if message.encoding != self.encoding.name or not isinstance(message.content, str):
            tokens = await self.count(message.content)
        return Weighed(message, self.cost(message.role, message.content, tokens))


def _too_long(window: Window, tokens: int) -> ContextLengthError:
    return ContextLengthError(
        f"This model's maximum context length is {window.size} tokens, of which {window.reserved} "
        f"are kept for the answer. This prompt alone takes {tokens} tokens of the "
        f"{window.budget} left. Please shorten it.",
        "prompt",
    )


def _composed(
    scale: _Scale,
    window: Window,
    system_prompt: str | None,
    content: Content,
    tokens: int,
    fixed: int,
    history: Sequence[Weighed],
    room: int,
) -> Composed:
    kept = trim(history, room)
    sums = fixed + sum(weighed.cost for weighed in kept)
    messages = _messages(system_prompt, kept, content)
    if not scale.model.chat:
        kept, messages, sums = _rendered(scale, window, system_prompt, kept, content)
    behind = history[0].message.depth if history else 0
    sent = Sent(window.size, window.budget, sums, len(kept) + 1, behind - len(kept))
    return Composed(system_prompt, messages, kept, tokens, scale.encoding.name, window, sent)


def _rendered(
    scale: _Scale,
    window: Window,
    system_prompt: str | None,
    kept: list[Weighed],
    content: Content,
) -> tuple[list[Weighed], tuple[PromptMessage, ...], int]:
    """Drop further turns until the prompt fits as the one text that a completion model is sent."""
    while True:
        messages = _messages(system_prompt, kept, content)
        tokens = scale.encoding.count(template.render(messages))
        if tokens <= window.budget:
            return kept, messages, tokens
        if not kept:
            raise _too_long(window, tokens)
        newer = next(
            (i for i in range(len(kept) - 2, -1, -1) if kept[i].message.role is Role.USER), -1
        )
        kept = kept[: newer + 1]


def _messages(
    system_prompt: str | None, kept: Sequence[Weighed], content: Content
) -> tuple[PromptMessage, ...]:
    system = [PromptMessage(Role.SYSTEM, system_prompt)] if system_prompt else []
    history = [PromptMessage(w.message.role, w.message.content) for w in reversed(kept)]
    return (*system, *history, PromptMessage(Role.USER, content))

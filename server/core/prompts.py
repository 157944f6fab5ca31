"""Composes what is sent upstream: system prompt, what fits of the history, question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from server.core.context import Weighed, Window, trim
from server.core.errors import ContextLengthError
from server.core.scale import Scale
from server.upstream import template
from server.upstream.encoding import Encoding, encoding
from server.upstream.models import Model, budget, model, reserve
from server.upstream.port import PromptMessage
from storage.model import Content, Role, Sent
from storage.port import Store

#: How many messages a step up the tree reads.
STEP = 100
#: How many summaries are looked at, those of the most messages first.
SUMMARIES = 10
SUMMARY_HEADING = "Summary of the conversation before this point:\n"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says about counting, for all models; None: the model's own."""

    encoding: str | None = None
    window: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a prompt is composed for: a question under a message of a conversation."""

    owner: str
    conversation_id: str
    parent_id: str | None
    content: Content
    model: str
    system_prompt: str | None = None
    max_tokens: int | None = None
    summarise: bool = False


@dataclass(frozen=True, slots=True)
class Composed:
    """What is sent, and what it comes to. `kept` is newest first, as is `history`, which has one
    message more than fits where not all of them do."""

    scale: Scale
    window: Window
    system_prompt: str | None
    system_tokens: int
    content: Content
    question_tokens: int
    history: Sequence[Weighed]
    kept: Sequence[Weighed]
    summary: Weighed | None
    #: all tokens of the prompt, priming and overheads included
    prompt_tokens: int
    messages: tuple[PromptMessage, ...] = field(default=())

    @property
    def encoding(self) -> str:
        return self.scale.encoding.name

    @property
    def sent(self) -> Sent:
        depth = self.history[0].message.depth if self.history else 0
        included = sum(1 for weighed in self.kept if weighed.cost)
        return Sent(
            window=self.window.size,
            budget=self.window.budget,
            prompt_tokens=self.prompt_tokens,
            messages_included=included + 1,
            messages_trimmed=depth - len(self.kept),
        )


class Prompts:
    """Counts in the model's encoding and reads no more of a history than fits its window."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def encoding_of(self, model_name: str) -> Encoding:
        return encoding(self._settings.encoding or model(model_name).encoding)

    def scale(self, model_name: str) -> Scale:
        return Scale(model_name, self.encoding_of(model_name))

    async def count(self, model_name: str, content: Content) -> int:
        """Return the tokens of a content alone, in the model's encoding."""
        return await self.scale(model_name).count(content)

    def window(self, of: Model, max_tokens: int | None) -> Window:
        """Return the window and what of it a prompt may use; `max_tokens` is the caller's."""
        size = self._settings.window or of.window
        reserved = max_tokens or self._settings.max_tokens or reserve(of, size)
        return Window(size, reserved, max(0, budget(of, window=size, reserve=reserved)))

    async def compose(self, request: Request) -> Composed:
        """Compose the prompt for a question. Raises ContextLengthError, for it alone too long."""
        scale = self.scale(request.model)
        window = self.window(scale.model, request.max_tokens)
        bare = await _bare(scale, window, request)
        room = window.budget - bare.prompt_tokens
        if room < 0:
            raise _too_long(window, bare.prompt_tokens)
        history = [weighed async for weighed in self.history(request, scale, room)]
        kept: Sequence[Weighed] = trim(history, room)
        summary = None
        if request.summarise and len(kept) < len(history):
            kept, summary = await self._summarised(request, scale, history, kept, room)
        return _fitted(replace(bare, history=history, kept=kept, summary=summary))

    async def history(self, request: Request, scale: Scale, room: int) -> AsyncIterator[Weighed]:
        """Walk up from the parent until the room is full, and one on: `trim` needs to see it."""
        leaf = request.parent_id
        while leaf is not None and room >= 0:
            step = await self._store.branch(
                request.owner, request.conversation_id, leaf, limit=STEP, tokens=max(0, room)
            )
            for message in step:
                weighed = await scale.weigh(message)
                room -= weighed.cost
                yield weighed
            leaf = step[-1].parent_id

    async def _summarised(
        self,
        request: Request,
        scale: Scale,
        history: Sequence[Weighed],
        kept: Sequence[Weighed],
        room: int,
    ) -> tuple[Sequence[Weighed], Weighed | None]:
        """Put the summary that reaches furthest in place of what it stands for, if one fits."""
        places = {weighed.message.id: place for place, weighed in enumerate(history)}
        for found in await self._store.summaries(
            request.owner, request.conversation_id, limit=SUMMARIES
        ):
            place = places.get(found.parent_id or "")
            if place is None:
                continue
            told = replace(found, content=SUMMARY_HEADING + str(found.content), encoding="")
            summary = await scale.weigh(told)
            if summary.cost <= room:
                return trim(history[:place], room - summary.cost, whole=True), summary
        return kept, None


async def _bare(scale: Scale, window: Window, request: Request) -> Composed:
    """Compose a prompt without any history."""
    tokens = await scale.count(request.content)
    total = scale.priming + scale.cost(Role.USER, request.content, tokens)
    system_tokens = 0
    if request.system_prompt:
        system_tokens = await scale.count(request.system_prompt)
        total += scale.cost(Role.SYSTEM, request.system_prompt, system_tokens)
    return Composed(
        scale=scale,
        window=window,
        system_prompt=request.system_prompt,
        system_tokens=system_tokens,
        content=request.content,
        question_tokens=tokens,
        history=(),
        kept=(),
        summary=None,
        prompt_tokens=total,
    )


def _fitted(composed: Composed) -> Composed:
    """Fill in the messages and the sum of a prompt whose history is chosen."""
    if not composed.scale.model.chat:
        return _rendered(composed)
    history = sum(weighed.cost for weighed in composed.kept)
    summary = composed.summary.cost if composed.summary else 0
    total = composed.prompt_tokens + history + summary
    return replace(composed, messages=_messages(composed), prompt_tokens=total)


def _rendered(composed: Composed) -> Composed:
    """Drop further turns until the prompt fits as the one text that a completion model is sent."""
    while True:
        messages = _messages(composed)
        tokens = composed.scale.encoding.count(template.render(messages))
        if tokens <= composed.window.budget:
            return replace(composed, messages=messages, prompt_tokens=tokens)
        if not composed.kept:
            raise _too_long(composed.window, tokens)
        composed = replace(composed, kept=_without_oldest_turn(composed.kept))


def _without_oldest_turn(kept: Sequence[Weighed]) -> Sequence[Weighed]:
    newer = range(len(kept) - 2, -1, -1)
    return kept[: next((i + 1 for i in newer if kept[i].message.role is Role.USER), 0)]


def _messages(composed: Composed) -> tuple[PromptMessage, ...]:
    first = [PromptMessage(Role.SYSTEM, composed.system_prompt)] if composed.system_prompt else []
    if composed.summary is not None:
        first.append(PromptMessage(Role.SYSTEM, composed.summary.message.content))
    history = [
        PromptMessage(weighed.message.role, weighed.message.content)
        for weighed in reversed(composed.kept)
        if weighed.cost
    ]
    return (*first, *history, PromptMessage(Role.USER, composed.content))


def _too_long(window: Window, tokens: int) -> ContextLengthError:
    return ContextLengthError(
        f"This model's maximum context length is {window.size} tokens, of which {window.reserved} "
        f"are kept for the answer. This prompt alone takes {tokens} tokens of the "
        f"{window.budget} left. Please shorten it.",
        "prompt",
    )

"""Composes what is sent upstream: system prompt, what fits of the history, question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from server.core.errors import ContextLengthError
from server.core.prompt.composed import Composed, messages_of, too_long
from server.core.prompt.fit_text import fits, fitted, written
from server.core.prompt.weigh import Scale
from server.core.prompt.window import Weighed, Window, trim, turn_ends
from server.templates.template import PLAIN, Template
from server.tokens.encoding import Encoding, encoding
from server.tokens.models import Model, budget, model, reserve
from storage.model import Content, Message, Role
from storage.port import Store

#: How many messages a step up the tree reads.
STEP = 100
#: How many summaries are looked at, those of the most messages first.
SUMMARIES = 10
SUMMARY_HEADING = "Summary of the conversation before this point:\n"


@dataclass(frozen=True, slots=True)
class CountingSettings:
    """What the configuration says about counting, for all models; None: the model's own."""

    encoding: str | None = None
    window: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What a prompt is composed for: a question under a message of a conversation."""

    owner: str
    conversation_id: str
    parent_id: str | None
    content: Content
    model: str
    system_prompt: str | None = None
    max_tokens: int | None = None
    summarise: bool = False
    #: how it is written as one text; None: it is sent as messages, to models that take them
    template: Template | None = None
    #: what ends in the parent and is not kept yet, oldest first: what a character says first, say
    before: tuple[Message, ...] = ()
    role: Role = Role.USER
    #: what is sent beside the messages and takes tokens as they do
    attached: str = ""


class Composer:
    """Counts in the model's encoding and reads no more of a history than fits its window."""

    def __init__(self, store: Store, settings: CountingSettings) -> None:
        self._store = store
        self._settings = settings

    def encoding_of(self, model_name: str) -> Encoding:
        return encoding(self._settings.encoding or model(model_name).encoding)

    def scale(self, model_name: str, template: Template | None = None) -> Scale:
        return Scale(model_name, self.encoding_of(model_name), template)

    async def count(self, model_name: str, content: Content) -> int:
        """Return the tokens of a content alone, in the model's encoding."""
        return await self.scale(model_name).count(content)

    def window(self, of: Model, max_tokens: int | None) -> Window:
        """Return the window and what of it a prompt may use; `max_tokens` is the caller's."""
        size = self._settings.window or of.window
        reserved = max_tokens or self._settings.max_tokens or reserve(of, size)
        return Window(size, reserved, max(0, budget(of, window=size, reserve=reserved)))

    async def room(self, model_name: str, text: str) -> int:
        """Return the tokens that an answer to a text may have: those reserved, or what is left."""
        window = self.window(model(model_name), None)
        return max(1, min(window.reserved, window.size - await self.count(model_name, text)))

    async def compose(self, request: PromptRequest) -> Composed:
        """Compose the prompt for a question. Raises ContextLengthError, for it alone too long."""
        template = request.template
        if template is None and not model(request.model).chat:
            template = PLAIN
        scale = self.scale(request.model, template)
        window = self.window(scale.model, request.max_tokens)
        bare = await _bare(scale, window, request)
        if template is not None:
            return await self._as_text(request, bare)
        room = window.budget - bare.prompt_tokens
        if room < 0:
            raise too_long(window, bare.prompt_tokens)
        history = [weighed async for weighed in self.history(request, scale, room)]
        kept: Sequence[Weighed] = trim(history, room)
        summary = None
        if request.summarise and len(kept) < len(history):
            kept, summary = await self._summarised(request, scale, history, kept, room)
        return _summed(replace(bare, history=history, kept=kept, summary=summary))

    async def _as_text(self, request: PromptRequest, bare: Composed) -> Composed:
        """Compose a prompt that is sent as one text, of which the exact count decides.

        Where all that was read fits, more is read, twice as much each time: what a template adds
        or leaves out is not known before. So it costs what fits, and not what there is.
        """
        room = bare.window.budget - bare.prompt_tokens
        before = -1
        while True:
            history = [weighed async for weighed in self.history(request, bare.scale, max(0, room))]
            there_is_more = bool(history) and history[-1].message.parent_id is not None
            kept = history[: max(turn_ends(history), default=0)]
            whole = await written(replace(bare, history=history, kept=kept))
            if not fits(whole) or not there_is_more or whole.prompt_tokens <= before:
                break
            before, room = whole.prompt_tokens, 2 * max(room, 1)
        if not fits(whole):
            whole = await fitted(bare, history)
        if request.summarise and len(whole.kept) < len(history):
            return await self._summarised_text(request, bare, whole)
        return whole

    async def history(
        self, request: PromptRequest, scale: Scale, room: int
    ) -> AsyncIterator[Weighed]:
        """Walk up from the parent until the room is full, and one on: `trim` needs to see it."""
        for message in reversed(request.before):
            weighed = await scale.weigh(message)
            room -= weighed.cost
            yield weighed
        leaf = request.before[0].parent_id if request.before else request.parent_id
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
        request: PromptRequest,
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
            summary = await scale.weigh(_headed(found))
            if summary.cost <= room:
                return trim(history[:place], room - summary.cost, whole=True), summary
        return kept, None

    async def _summarised_text(
        self, request: PromptRequest, bare: Composed, without: Composed
    ) -> Composed:
        """Do the same in a prompt that is sent as one text."""
        places = {weighed.message.id: place for place, weighed in enumerate(without.history)}
        for found in await self._store.summaries(
            request.owner, request.conversation_id, limit=SUMMARIES
        ):
            place = places.get(found.parent_id or "")
            if place is None:
                continue
            summary = await bare.scale.weigh(_headed(found))
            try:
                with_it = replace(bare, summary=summary)
                chosen = await fitted(with_it, without.history[:place], whole=True)
            except ContextLengthError:
                continue
            return replace(chosen, history=without.history)
        return without


def _headed(summary: Message) -> Message:
    """Return a summary as it is sent."""
    return replace(summary, content=SUMMARY_HEADING + str(summary.content), encoding="")


async def _bare(scale: Scale, window: Window, request: PromptRequest) -> Composed:
    """Compose a prompt without any history."""
    tokens = await scale.count(request.content)
    total = scale.priming + scale.cost(request.role, request.content, tokens)
    total += await scale.count(request.attached) if request.attached else 0
    system_tokens = 0
    if request.system_prompt:
        system_tokens = await scale.count(request.system_prompt)
        total += scale.cost(Role.SYSTEM, request.system_prompt, system_tokens)
    return Composed(
        scale=scale,
        window=window,
        system_prompt=request.system_prompt,
        system_tokens=system_tokens,
        role=request.role,
        content=request.content,
        question_tokens=tokens,
        history=(),
        kept=(),
        summary=None,
        prompt_tokens=total,
    )


def _summed(composed: Composed) -> Composed:
    """Fill in the messages and the sum of a prompt whose history is chosen."""
    history = sum(weighed.cost for weighed in composed.kept)
    summary = composed.summary.cost if composed.summary else 0
    total = composed.prompt_tokens + history + summary
    return replace(composed, messages=messages_of(composed), prompt_tokens=total)

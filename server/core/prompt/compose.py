"""Composes what is sent upstream: system prompt, what fits of the history, question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from server.core.errors import ContextLengthError
from server.core.prompt.composed import Composed, all_too_long, summed
from server.core.prompt.fit import Write, fits, fitted, held
from server.core.prompt.learning import Learning
from server.core.prompt.measure import asked, written
from server.core.prompt.weigh import Scale
from server.core.prompt.window import Weighed, Window, turn_ends
from server.mcp.port import ServerTool
from server.templates.template import PLAIN, Template
from server.tokens.encoding import Encoding, encoding
from server.tokens.models import budget, is_known, model, reserve
from server.upstream.model_info import ModelInfo, Named
from server.upstream.port import Models
from storage.model import Content, Message, Role
from storage.port import NotFoundError, Store

#: How many messages a step up the tree reads.
STEP = 100
#: How many messages are passed over that are not sent: questions that failed, say.
PASSED_OVER = 1_000
#: How many summaries are looked at, those of the most messages first.
SUMMARIES = 10
#: A prompt that was refused is tried again with this share of its tokens at most.
SHORTER = 0.9
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
    #: tools and the like, which are sent beside too
    options: Mapping[str, Any] = field(default_factory=dict)
    #: tools that we run ourselves, which are offered beside those
    tools: tuple[ServerTool, ...] = ()
    #: asked by a caller that keeps a history of its own: what it said goes as it came
    as_it_came: bool = False
    #: what does not fit is refused, and no turn of a history left out
    whole: bool = False
    #: what the question says beside its content; see storage.model.Message
    item: Mapping[str, Any] | None = None
    #: a longer prompt of the same question that the upstream did not take
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A prompt that was too long: its tokens by our count and by the upstream's, where it said."""

    ours: int
    theirs: int | None
    #: nothing is to be sent but the question
    alone: bool = False


class Composer:
    """Counts in the model's encoding and reads no more of a history than fits its window."""

    def __init__(
        self, store: Store, settings: CountingSettings, models: Models, learning: Learning
    ) -> None:
        self._store = store
        self._settings = settings
        self._models = models
        self.learning = learning

    def named(self, model_name: str) -> Named:
        """Return who is asked for a model, and under which name."""
        return self._models.named(model_name)

    def encoding_of(self, model_name: str) -> Encoding:
        named = self._models.named(model_name)
        name = named.encoding or self._settings.encoding
        return encoding(name or model(named.model).encoding)

    async def count(self, model_name: str, content: Content) -> int:
        """Return the tokens of a content alone, in the encoding that its model is counted in."""
        named = self._models.named(model_name)
        return await Scale(named.model, self.encoding_of(model_name)).count(content)

    async def scale(self, model_name: str, template: Template | None = None) -> Scale:
        """Return what weighs messages for a model."""
        return self._scale(await self._models.info(model_name), model_name, template)

    def _scale(self, info: ModelInfo, model_name: str, template: Template | None) -> Scale:
        ratio = None if self._is_exact(info) else self.learning.ratio(info.named)
        return Scale(info.named.model, self.encoding_of(model_name), template, ratio or 1.0)

    def _is_exact(self, info: ModelInfo) -> bool:
        if info.counter is not None:
            return False
        configured = self._settings.encoding is not None and info.named.tokenizer is None
        return info.named.exact or configured

    def window(
        self, info: ModelInfo, max_tokens: int | None, template: Template | None = None
    ) -> Window:
        """Return the window and what of it a prompt may use; `max_tokens` is the caller's."""
        of = model(info.named.model)
        size = info.set_window or self._settings.window or info.told_window
        learnt = self.learning.window(info)
        known = bool(size or learnt) or is_known(info.named.model)
        told = size or of.window
        size = min(told, learnt or told)
        reserved = max_tokens or self._settings.max_tokens or reserve(of, size)
        room, most = (budget(of, window=one, reserve=reserved) for one in (size, told))
        return Window(size, reserved, room, known, self._counted(info, template), most)

    def _counted(self, info: ModelInfo, template: Template | None) -> str:
        if info.counter is not None and template is None:
            return "upstream"
        if self._is_exact(info):
            return "exact"
        return "guessed" if self.learning.ratio(info.named) is None else "learnt"

    async def room(self, model_name: str, text: str) -> int:
        """Return the tokens that an answer to a text may have: those reserved, or what is left."""
        info = await self._models.info(model_name)
        window, scale = self.window(info, None), self._scale(info, model_name, None)
        left = window.size - scale.scaled(await scale.count(text))
        return max(1, min(window.reserved, left))

    async def compose(self, request: PromptRequest) -> Composed:
        """Compose the prompt for a question. Raises ContextLengthError, for it alone too long."""
        info = await self._models.info(request.model)
        template = request.template
        if template is None and not model(info.named.model).chat:
            template = PLAIN
        scale = self._scale(info, request.model, template)
        window = self.window(info, request.max_tokens, template)
        if request.refused is not None:
            window = _less(window, scale, request.refused)
        elif request.whole:
            window = replace(window, budget=window.most)  # beyond what was learnt, who asks judges
        bare = await _bare(scale, window, request)
        strict = info.named.strict and template is None and not request.as_it_came
        bare = replace(bare, as_it_came=not strict)
        write: Write = summed if template is None else written
        if info.counter is not None and template is None:
            was_refused = request.refused is not None
            write = asked(self._models, self.learning, info, refused=was_refused)
        return await self._fitted(request, bare, write)

    async def _fitted(self, request: PromptRequest, bare: Composed, write: Write) -> Composed:
        """Fit what there is of a history; where turns leave, a summary stands in their place.

        Where all that was read fits, more is read, twice as much each time: what a template adds
        or leaves out is not known before. So it costs what fits, and not what there is.
        """
        if (refused := request.refused) is not None:
            if request.whole:
                raise all_too_long(bare.window, refused.theirs or refused.ours)
            alone = await held(write, bare, await self._open(request, bare, refused), 0)
            if refused.alone or not fits(alone):
                return alone  # the upstream judges
        room = bare.window.budget - (await summed(bare)).prompt_tokens
        before = -1
        while True:
            history = [one async for one in self.history(request, bare.scale, max(0, room))]
            there_is_more = bool(history) and history[-1].message.parent_id is not None
            whole = await held(write, bare, history, len(history))
            if not fits(whole) or not there_is_more or whole.prompt_tokens <= before:
                break
            if write is summed:
                break  # what it read was too much by the same sum
            before, room = whole.prompt_tokens, 2 * max(room, 1)
        full = not fits(whole) or (there_is_more and write is summed)
        if full and request.whole:
            raise all_too_long(bare.window, whole.prompt_tokens)
        if full:
            count = await self._count_held(request, history, bare.window)
            whole = await self._trimmed(write, bare, history, count)
        if request.summarise and len(whole.kept) < len(history):
            return await self._summarised(request, write, bare, whole)
        return whole

    async def _open(
        self, request: PromptRequest, bare: Composed, refused: Refused
    ) -> Sequence[Weighed]:
        """Return the messages above a tool's result that are of the same question.

        All of them were in what was refused, by whichever count.
        """
        if request.role is not Role.TOOL:
            return []
        room = 2 * bare.scale.scaled(refused.ours)
        history = [one async for one in self.history(request, bare.scale, room)]
        return history[: next(iter(turn_ends(history)), len(history))]

    async def _trimmed(
        self,
        write: Write,
        bare: Composed,
        history: Sequence[Weighed],
        count: int,
        *,
        whole: bool = False,
    ) -> Composed:
        """Begin where the turn before began, as long as that fits; else anew, with slack."""
        if 0 < count <= len(history):
            as_before = await held(write, bare, history, count, whole=whole)
            if fits(as_before):
                return as_before
        return await fitted(write, bare, history, whole=whole)

    async def _count_held(
        self, request: PromptRequest, history: Sequence[Weighed], window: Window
    ) -> int:
        """Return how many of the newest messages the turn before would have kept, and this one.

        Turns say themselves how many messages they were not sent, so it is the same after a
        restart. 0 where it was sent all, or had another window.
        """
        turns = (one.message.turn_id for one in history)
        if (turn_id := next((one for one in turns if one is not None), None)) is None:
            return 0
        try:
            sent = (await self._store.turn(request.owner, turn_id)).context
        except NotFoundError:  # an imported one
            return 0
        if sent.window != window.size or sent.messages_trimmed <= 0:
            return 0
        return history[0].message.depth - sent.messages_trimmed

    async def history(
        self, request: PromptRequest, scale: Scale, room: int
    ) -> AsyncIterator[Weighed]:
        """Walk up from the parent until the room is full, and one on: `trim` needs to see it.

        Also until too many were passed over: a branch may be a retry of one question for ever.
        """
        for message in reversed(request.before):
            weighed = await scale.weigh(message)
            room -= max(1, weighed.cost)
            yield weighed
        leaf = request.before[0].parent_id if request.before else request.parent_id
        below = request.before[0].role if request.before else request.role
        passed_over = 0
        while leaf is not None and room >= 0 and passed_over < PASSED_OVER:
            step = await self._store.branch(
                request.owner, request.conversation_id, leaf, limit=STEP, tokens=max(0, room)
            )
            failed = await self._failed(request, step, below)
            for message in step:
                weighed = await scale.weigh(message)
                if message.id in failed:
                    weighed = replace(weighed, cost=0)
                passed_over += not weighed.cost
                room -= max(1, weighed.cost)
                yield weighed
            leaf, below = step[-1].parent_id, step[-1].role

    async def _failed(
        self, request: PromptRequest, step: Sequence[Message], below: Role
    ) -> Collection[str]:
        """Return the questions without an answer that the upstream refused, or broke at.

        They would be refused with every later one. `step` is newest first, and under `below`.
        """
        if request.as_it_came:
            return ()
        under = (below, *(message.role for message in step))
        turns = {
            message.id: message.turn_id
            for message, role in zip(step, under, strict=False)
            if role is message.role is Role.USER and message.turn_id is not None
        }
        failed = await self._store.failed(request.owner, set(turns.values())) if turns else ()
        return {question for question, turn in turns.items() if turn in failed}

    async def _summarised(
        self, request: PromptRequest, write: Write, bare: Composed, without: Composed
    ) -> Composed:
        """Put the summary that reaches furthest in place of what it stands for, if one fits."""
        history = without.history
        places = {weighed.message.id: place for place, weighed in enumerate(history)}
        for found in await self._store.summaries(
            request.owner, request.conversation_id, limit=SUMMARIES
        ):
            place = places.get(found.parent_id or "")
            if place is None or place < without.opened:
                continue
            with_it = replace(bare, summary=await bare.scale.weigh(_headed(found)))
            try:
                chosen = await self._trimmed(write, with_it, history[:place], place, whole=True)
            except ContextLengthError:
                continue
            return replace(chosen, history=history)
        return without


def _less(window: Window, scale: Scale, refused: Refused) -> Window:
    """Return a window in which a prompt is shorter than the one that was refused."""
    was = scale.ratio * refused.ours
    share = min(1.0, was / refused.theirs) if refused.theirs else 1.0
    return replace(window, budget=max(0, min(int(share * window.budget), int(SHORTER * was))))


def _headed(summary: Message) -> Message:
    """Return a summary as it is sent."""
    return replace(summary, content=SUMMARY_HEADING + str(summary.content), encoding="")


async def _bare(scale: Scale, window: Window, request: PromptRequest) -> Composed:
    """Compose a prompt without any history."""
    attached = await scale.count(request.attached) if request.attached else 0
    return Composed(
        scale=scale,
        window=window,
        system_prompt=request.system_prompt,
        system_tokens=await scale.count(request.system_prompt) if request.system_prompt else 0,
        role=request.role,
        content=request.content,
        question_tokens=await scale.count(request.content),
        history=(),
        kept=(),
        summary=None,
        prompt_tokens=0,
        attached_tokens=scale.scaled(attached),
    )

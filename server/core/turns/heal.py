"""Asks again with less where an upstream refuses a prompt for its length, before the first word."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from server.core.errors import ContextLengthError
from server.core.prompt.compose import Refused
from server.core.prompt.composed import Composed
from server.core.prompt.learning import Learning
from server.upstream.model_info import Named
from server.upstream.port import (
    Finish,
    Piece,
    Prompt,
    PromptProgress,
    Upstream,
    UpstreamOverflowError,
)
from storage.model import ContextUse, Lesson, Usage

log = structlog.get_logger("trialogue.turns")

#: How often a prompt is asked again with less; the last time with the question alone.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Sending:
    """A prompt on its way, what it comes to, and how to make a shorter one of the same question."""

    prompt: Prompt
    named: Named
    sent: ContextUse
    #: its tokens by our own count
    ours: int
    #: nothing of a history is in it
    alone: bool
    shorter: Callable[[Refused], Awaitable[Sending]]

    @property
    def least(self) -> int:
        """What it comes to, at the least: by a ratio of other texts it may be fewer tokens."""
        told = self.sent.prompt_tokens
        return told if self.sent.counted in ("exact", "upstream") else min(told, self.ours)

    def of(self, request_id: str) -> Sending:
        """Return it as it is sent for a request."""
        return replace(self, prompt=replace(self.prompt, request_id=request_id))


def sending(
    prompt: Prompt,
    named: Named,
    composed: Composed,
    shorter: Callable[[Refused], Awaitable[Sending]],
) -> Sending:
    """Return a composed prompt as it is sent."""
    return Sending(
        prompt,
        named,
        composed.sent,
        composed.ours,
        alone=composed.alone,
        shorter=shorter,
    )


class Healing:
    """One turn's answer, asked for until the upstream takes the prompt.

    `sent` is what was sent last; `lessons` are what was learnt on the way and is worth keeping.
    """

    def __init__(self, upstream: Upstream, first: Sending, learning: Learning) -> None:
        self._upstream = upstream
        self._learning = learning
        self.sending = first
        self.lessons: list[Lesson] = []

    @property
    def asked(self) -> Prompt:
        """What is sent."""
        return self.sending.prompt

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield an answer's pieces; see Upstream. Raises ContextLengthError as a last resort."""
        for left in reversed(range(TRIES + 1)):
            begun = False
            try:
                answer = self._upstream.complete(self.asked)
                async with aclosing(answer) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        begun = begun or not isinstance(piece, PromptProgress)
                        yield piece
                return
            except UpstreamOverflowError as refusal:
                if begun:
                    raise
                await self._shorten(refusal, left)

    async def _shorten(self, refusal: UpstreamOverflowError, left: int) -> None:
        """Learn from a refusal, and send less next time. Raises ContextLengthError."""
        now = self.sending
        named = refusal.by or now.named
        self._note(self._learning.refused(named, now.ours, refusal.tokens, refusal.window))
        if now.alone or not left:
            raise _too_long(refusal) from None
        log.info("prompt was too long", left=left, tokens=refusal.tokens, window=refusal.window)
        shorter = await now.shorter(Refused(now.ours, refusal.tokens, alone=left == 1))
        self.sending = shorter.of(now.prompt.request_id) if now.prompt.request_id else shorter

    def read(self, finish: Finish) -> Usage | None:
        """Return what the upstream says of the prompt that was counted."""
        return finish.usage

    def hear(self, finish: Finish) -> None:
        """Learn from the usage of an answer, a prompt that was cut in silence too."""
        now, named = self.sending, finish.by or self.sending.named
        if finish.usage is None:
            return
        read, cached = finish.usage.prompt_tokens, finish.usage.cached_tokens or 0
        if self._learning.was_cut(now.least, read + cached):
            log.warning(
                "the upstream cut the prompt: set its context_window, or give it a larger one",
                upstream=named.upstream,
                model=named.model,
                sent=now.sent.prompt_tokens,
                read=read,
            )
            self._note(self._learning.cut(named, read))
        else:
            self._note(self._learning.heard(named, now.ours, read))

    def _note(self, lesson: Lesson | None) -> None:
        if lesson is not None:
            self.lessons.append(lesson)


def _too_long(refusal: UpstreamOverflowError) -> ContextLengthError:
    """Return what a caller is told whose question alone is too long, in the upstream's numbers."""
    if "maximum context length" in refusal.message:
        return ContextLengthError(refusal.message, "prompt")
    most = "shorter than that" if refusal.window is None else f"{refusal.window} tokens"
    return ContextLengthError(
        f"This model's maximum context length is {most}. This prompt alone is too long for it: "
        f"{refusal.message}",
        "prompt",
    )

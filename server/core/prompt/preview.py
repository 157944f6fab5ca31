"""What would be sent for a prompt, message by message: kept or trimmed, and why."""

from __future__ import annotations

from dataclasses import dataclass

from server.core.prompt.compose import Composer, PromptRequest
from server.core.prompt.composed import Composed
from storage.model import Role
from storage.port import Store

#: How many trimmed messages are listed, the newest ones; all of them are counted.
LISTED = 100


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """One message; `overhead` is what sending it takes beyond its own tokens."""

    id: str | None
    role: Role
    tokens: int
    overhead: int
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Preview:
    """A prompt that was composed and not sent; `lines` oldest first, as they would be sent."""

    composed: Composed
    lines: tuple[PreviewLine, ...]

    @property
    def remaining(self) -> int:
        return self.composed.window.budget - self.composed.prompt_tokens


async def preview(store: Store, composer: Composer, request: PromptRequest) -> Preview:
    """Compose a prompt and tell of each message what becomes of it. Asks nobody."""
    composed = await composer.compose(request)
    trimmed = await _trimmed(store, request, composed)
    return Preview(composed, (*_first(composed), *reversed(trimmed), *_last(request, composed)))


def _first(composed: Composed) -> list[PreviewLine]:
    lines = []
    if composed.system_prompt:
        tokens = composed.system_tokens
        cost = composed.scale.cost(Role.SYSTEM, composed.system_prompt, tokens)
        lines.append(PreviewLine(None, Role.SYSTEM, tokens, cost - tokens, True, "system prompt"))
    if (summary := composed.summary) is not None:
        reason = f"summary of {summary.message.stands_for} messages"
        overhead = summary.cost - summary.tokens
        lines.append(
            PreviewLine(summary.message.id, Role.SYSTEM, summary.tokens, overhead, True, reason)
        )
    return lines


def _last(request: PromptRequest, composed: Composed) -> list[PreviewLine]:
    lines = [
        PreviewLine(
            None if weighed.message in request.before else weighed.message.id,
            weighed.message.role,
            weighed.tokens,
            weighed.cost - weighed.tokens,
            bool(weighed.cost),
            "fits" if weighed.cost else "tool messages are not sent",
        )
        for weighed in reversed(composed.kept)
    ]
    tokens = composed.question_tokens
    cost = composed.scale.cost(Role.USER, composed.content, tokens)
    return [*lines, PreviewLine(None, Role.USER, tokens, cost - tokens, True, "question")]


async def _trimmed(store: Store, request: PromptRequest, composed: Composed) -> list[PreviewLine]:
    """Return the newest of what does not fit, newest first."""
    place = len(composed.kept)
    if place >= len(composed.history):
        return []
    if request.before:  # a greeting: nothing stands above it
        (weighed,) = composed.history
        overhead = weighed.cost - weighed.tokens
        return [
            PreviewLine(None, Role.ASSISTANT, weighed.tokens, overhead, False, "over the budget")
        ]
    leaf = composed.history[place].message.id
    found = await store.branch(request.owner, request.conversation_id, leaf, limit=LISTED)
    summarised = composed.summary.message.depth - 1 if composed.summary else 0
    lines = []
    for message in found:
        weighed = await composed.scale.weigh(message)
        reason = "summarised" if message.depth <= summarised else "over the budget"
        overhead = weighed.cost - weighed.tokens
        lines.append(PreviewLine(message.id, message.role, weighed.tokens, overhead, False, reason))
    return lines

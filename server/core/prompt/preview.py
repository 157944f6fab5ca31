"""What would be sent for a prompt, message by message: kept or trimmed, and why."""

from __future__ import annotations

from dataclasses import dataclass

from server.core.prompt.compose import Composer, PromptRequest
from server.core.prompt.composed import Composed
from server.core.prompt.window import Weighed
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
    cost = composed.scale.cost(composed.role, composed.content, tokens)
    return [*lines, PreviewLine(None, composed.role, tokens, cost - tokens, True, "question")]


async def _trimmed(store: Store, request: PromptRequest, composed: Composed) -> list[PreviewLine]:
    """Return the newest of what does not fit, newest first."""
    place = len(composed.kept)
    if place >= len(composed.history):
        return []
    left = composed.history[place:]
    new = [weighed for weighed in left if weighed.message in request.before]
    kept = left[len(new) :]
    leaf = kept[0].message.id if kept else request.before[0].parent_id
    lines = [_left_out(None, weighed, "over the budget") for weighed in new]
    if leaf is None:  # above a greeting stands nothing
        return lines
    found = await store.branch(request.owner, request.conversation_id, leaf, limit=LISTED)
    summarised = composed.summary.message.depth - 1 if composed.summary else 0
    for message in found:
        reason = "summarised" if message.depth <= summarised else "over the budget"
        lines.append(_left_out(message.id, await composed.scale.weigh(message), reason))
    return lines


def _left_out(id_: str | None, weighed: Weighed, reason: str) -> PreviewLine:
    overhead = weighed.cost - weighed.tokens
    return PreviewLine(id_, weighed.message.role, weighed.tokens, overhead, False, reason)

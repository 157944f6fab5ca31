"""What a prompt is made of: the parts that were chosen, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.core.errors import ContextLengthError
from server.core.prompt.weigh import Scale
from server.core.prompt.window import Weighed, Window
from storage.model import Content, ContextUse, PromptMessage, Role


@dataclass(frozen=True, slots=True)
class Composed:
    """What is sent, and what it comes to. `kept` is newest first, as is `history`, which has one
    message more than fits where not all of them do.

    A field for each number that the preview and a turn's context show."""

    scale: Scale
    window: Window
    system_prompt: str | None
    system_tokens: int
    role: Role
    content: Content
    question_tokens: int
    history: Sequence[Weighed]
    kept: Sequence[Weighed]
    summary: Weighed | None
    #: all tokens of the prompt, priming and overheads included
    prompt_tokens: int
    messages: tuple[PromptMessage, ...] = field(default=())
    #: the messages as the one text that is sent in their place; None where they are sent
    text: str | None = None

    @property
    def encoding(self) -> str:
        return self.scale.encoding.name

    @property
    def sent(self) -> ContextUse:
        depth = self.history[0].message.depth if self.history else 0
        included = sum(1 for weighed in self.kept if weighed.cost)
        return ContextUse(
            window=self.window.size,
            budget=self.window.budget,
            prompt_tokens=self.prompt_tokens,
            messages_included=included + 1,
            messages_trimmed=depth - len(self.kept),
        )


def messages_of(composed: Composed) -> tuple[PromptMessage, ...]:
    """Return the messages of a prompt whose history is chosen, oldest first."""
    first = [PromptMessage(Role.SYSTEM, composed.system_prompt)] if composed.system_prompt else []
    if composed.summary is not None:
        first.append(PromptMessage(Role.SYSTEM, composed.summary.message.content))
    history = [
        PromptMessage(weighed.message.role, weighed.message.content)
        for weighed in reversed(composed.kept)
        if weighed.cost
    ]
    return (*first, *history, PromptMessage(composed.role, composed.content))


def too_long(window: Window, tokens: int) -> ContextLengthError:
    return ContextLengthError(
        f"This model's maximum context length is {window.size} tokens, of which {window.reserved} "
        f"are kept for the answer. This prompt alone takes {tokens} tokens of the "
        f"{window.budget} left. Please shorten it.",
        "prompt",
    )

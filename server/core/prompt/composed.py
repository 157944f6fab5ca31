"""What a prompt is made of: the parts that were chosen, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from server.core.errors import ContextLengthError
from server.core.prompt.alternate import alternate, as_words
from server.core.prompt.pairs import paired, spoken, unrolled
from server.core.prompt.weigh import Scale
from server.core.prompt.window import Weighed, Window, turn_ends
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
    #: what they come to by our own count, in the model's tokens, however they were counted
    estimate: int = 0
    #: the messages as the one text that is sent in their place; None where they are sent
    text: str | None = None
    #: what is sent beside the messages takes so many
    attached_tokens: int = 0
    #: the messages are sent as they stand, for a caller that keeps a history of its own
    as_it_came: bool = False

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
            counted=self.window.counted,
            window_known=self.window.known,
        )

    @property
    def opened(self) -> int:
        """How many of the newest messages are of the open question: its calls, and results."""
        ends = turn_ends(self.kept) if self.role is Role.TOOL else []
        return ends[0] if ends else 0

    @property
    def alone(self) -> bool:
        """Whether nothing is sent but the question."""
        return len(self.kept) <= self.opened and self.summary is None

    @property
    def ours(self) -> int:
        """The prompt's tokens by our own encoding, near enough to learn a ratio from."""
        return round(self.estimate / self.scale.ratio)


def messages_of(composed: Composed) -> tuple[PromptMessage, ...]:
    """Return the messages of a prompt whose history is chosen, oldest first."""
    return _arranged(composed, [message for message, _ in _told(composed)])


def _arranged(composed: Composed, told: Sequence[PromptMessage]) -> tuple[PromptMessage, ...]:
    pairs = paired(told)
    if composed.scale.template is not None:
        return tuple(as_words(pairs))
    return tuple(pairs if composed.as_it_came else alternate(pairs))


async def summed(composed: Composed) -> Composed:
    """Fill in the messages and the sum of a prompt whose history is chosen."""
    told = _told(composed)
    messages = _arranged(composed, [message for message, _ in told])
    known = {id(message): cost for message, cost in told}
    total = composed.scale.priming + composed.attached_tokens
    for message in messages:
        cost = known.get(id(message))
        if cost is None:  # it was joined of others, or has more in it than was weighed
            tokens = await composed.scale.count(message.content)
            cost = composed.scale.cost(message.role, message.content, tokens)
        total += cost
    return replace(composed, messages=messages, prompt_tokens=total, estimate=total)


def _told(composed: Composed) -> list[tuple[PromptMessage, int | None]]:
    """Return all that is told, oldest first, each with its cost where that is known."""
    scale = composed.scale
    told: list[tuple[PromptMessage, int | None]] = []
    if composed.system_prompt:
        system = PromptMessage(Role.SYSTEM, composed.system_prompt)
        told.append((system, scale.cost(Role.SYSTEM, system.content, composed.system_tokens)))
    if (summary := composed.summary) is not None:
        told.append((PromptMessage(Role.SYSTEM, summary.message.content), summary.cost))
    opened = composed.opened
    for place, weighed in reversed(list(enumerate(composed.kept))):
        if weighed.cost:
            said = weighed.message.content
            bare = spoken(said)
            # Some models want back what they thought on the way to a call; no other thought is.
            sent = said if place < opened else bare
            if sent or not said:  # an answer of thoughts alone has nothing to be sent
                cost = weighed.cost if sent is bare else None
                one = PromptMessage(weighed.message.role, sent)
                told += [(each, cost) for each in unrolled(one)]
    question = PromptMessage(composed.role, composed.content)
    own = scale.cost(composed.role, composed.content, composed.question_tokens)
    return [*told, (question, own)]


def all_too_long(window: Window, tokens: int) -> ContextLengthError:
    """Refuse a question whose history does not fit, where none of that may be left out."""
    return ContextLengthError(
        f"This model's maximum context length is {window.size} tokens, of which {window.reserved} "
        f"are kept for the answer. However, your messages resulted in {tokens} tokens or more. "
        "Please reduce the length of the messages.",
        "prompt",
    )


def too_long(window: Window, tokens: int) -> ContextLengthError:
    return ContextLengthError(
        f"This model's maximum context length is {window.size} tokens, of which {window.reserved} "
        f"are kept for the answer. This prompt alone takes {tokens} tokens of the "
        f"{window.budget} left. Please shorten it.",
        "prompt",
    )

"""The nouns of a conversation, frozen; this module imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

#: What a message says: text, or a list of parts in OpenAI's shape where it is more than text.
Content = str | Sequence[Mapping[str, Any]]

T = TypeVar("T")


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Status(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in a tree under one system prompt. Times are microseconds since 1970, UTC."""

    id: str
    title: str
    system_prompt: str | None
    model: str | None
    metadata: Mapping[str, Any]
    created_at: int
    updated_at: int
    message_count: int = 0
    head_id: str | None = None
    truncation: str = "trim"
    pinned: bool = False
    #: when its newest message came; None where there is none
    last_message_at: int | None = None
    #: in no list: it is there for a response of OpenAI's API that named no conversation
    unlisted: bool = False


class Order(StrEnum):
    """In which order conversations are listed: those made last first, or those last active.

    By activity those that are pinned come before all others.
    """

    CREATED = "created"
    ACTIVITY = "activity"


@dataclass(frozen=True, slots=True)
class Message:
    """One utterance kept in history.

    `tokens` counts its content alone in `encoding`; `depth` is 1 for a message without a parent.
    A summary `stands_for` so many messages: all from the root to its parent.
    `siblings` are the ids of all messages with its parent, oldest first, where somebody asked.
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: Role
    content: Content
    tokens: int
    encoding: str
    model: str | None
    turn_id: str | None
    created_at: int
    depth: int = 0
    stands_for: int | None = None
    siblings: tuple[str, ...] = ()
    #: what an item of OpenAI's Responses API says beside its content: its own role, say
    item: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a turn took: as the upstream said, else as we counted.

    Of the prompt's so many were read from its cache, of the answer's so many were thought; None
    where it did not say.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class ContextUse:
    """What of the history was sent for a turn, in tokens and messages."""

    window: int
    budget: int
    prompt_tokens: int
    messages_included: int
    messages_trimmed: int
    #: exact, upstream, learnt or guessed; None where that is not known any more
    counted: str | None = None
    #: whether somebody told the window, or it was taken for want of anything better
    window_known: bool | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learnt of a model at an upstream.

    `ratio` is how many of its tokens one of ours is; `window` is in tokens, learnt at `window_at`
    (microseconds since 1970).
    """

    upstream: str
    model: str
    ratio: float | None = None
    window: int | None = None
    window_at: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn failed: a code of the error table, and a sentence for people."""

    code: str
    message: str
    #: the HTTP status an upstream answered with, where it was the upstream that refused
    status: int | None = None
    #: seconds to wait, where the upstream said so; told while the turn is live, and never kept
    retry_after: float | None = field(default=None, compare=False)
    #: the upstream's own code, and which parameter it refused; told and kept likewise
    upstream_code: str | None = field(default=None, compare=False)
    param: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and the answer written to it."""

    id: str
    conversation_id: str
    status: Status
    model: str
    parent_id: str | None
    question_id: str
    answer_id: str | None
    answer: str
    context: ContextUse
    created_at: int
    finish_reason: str | None = None
    usage: Usage | None = None
    error: Failure | None = None
    ended_at: int | None = None
    #: the upstream's prompt tokens less ours, where the upstream said
    drift: int | None = None
    #: the whole answer, where it is more than text
    parts: Sequence[Mapping[str, Any]] | None = None
    #: tools, and what else was offered for it
    options: Mapping[str, Any] = field(default_factory=dict)
    #: by which wire it was asked; None where that is not known
    wire: str | None = None
    #: it runs beside others in its conversation, and moves the head of an unlisted one only
    free: bool = False
    #: what else is told of it as a response of OpenAI's API; None where it was asked otherwise
    record: Mapping[str, Any] | None = None
    #: as a response it was deleted
    deleted: bool = False

    @property
    def content(self) -> Content:
        """The whole answer."""
        return self.answer if self.parts is None else self.parts

    def saying(self, content: Content) -> Turn:
        """Return the turn with this answer."""
        if isinstance(content, str):
            return replace(self, answer=content, parts=None)
        return replace(self, answer=answer_of(content), parts=content)


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search found: a message, or a title (then the first message, if there is one)."""

    message: Message | None
    conversation_id: str
    title: str
    snippet: str
    score: float


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for, and where; times are microseconds since 1970."""

    words: str
    role: Role | None = None
    conversation_id: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion of OpenAI's API that was kept: its answer and messages in their shape."""

    id: str
    model: str
    created_at: int
    answer: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompletionQuery:
    """Which completions are wanted: of a model, with all of this metadata, and in which order."""

    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    oldest_first: bool = True


@dataclass(frozen=True, slots=True)
class UpstreamObject:
    """A thing that somebody stored at an upstream, of which only the name is known here."""

    id: str
    #: the collection that it is of, as OpenAI's paths have it: `files`, `vector_stores`
    kind: str
    upstream: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that lets its owner in; only its digest is kept."""

    id: str
    owner: str
    digest: bytes
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, and whether there is more behind it."""

    items: tuple[T, ...] = field(default=())
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One message as an upstream is sent it."""

    role: Role
    content: Content
    name: str | None = None


def answer_of(content: Content) -> str:
    """Return the text of an answer: what its parts of text say, one behind the other."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if _is_text(part))


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def text_of(content: Content) -> str:
    """Return the text of a message, parts that are no text left out."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content if part.get("type") == "text")

"""What reading a file gives: conversations that were found, and places that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from storage.model import Content, Conversation, Message, Turn

#: Counts the tokens of a content, and says in which encoding.
Count = Callable[[Content], Awaitable[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class At:
    """Where in a file a conversation stands, and the time for one that tells none."""

    index: int
    key: str | None
    now: int


@dataclass(frozen=True, slots=True)
class Found:
    """A conversation with its messages, parent first; `dropped` counts what cannot be kept.

    `foreign` message ids are another program's: they may give way to ids of ours.
    """

    index: int
    conversation: Conversation
    messages: Sequence[Message]
    turns: Sequence[Turn] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A place in a file that cannot be kept, and why."""

    index: int
    id: str | None
    reason: str


Read = Found | Failed

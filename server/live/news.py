"""What is told of all that is an owner's: notes of what happened, and the events made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.live.turn import TurnEvent
from server.live.waiting import QueueChanged
from storage.model import Conversation, Turn


@dataclass(frozen=True, slots=True)
class Began:
    """A turn and its question are kept."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Over:
    """A turn has ended, and its followers hear so."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Made:
    """A conversation is kept that was not there."""

    conversation_id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A conversation is not what it was; `made` is how it began, where it may be gone again."""

    conversation_id: str
    made: Conversation | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """A conversation is gone; this is what it was."""

    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Moved:
    """Somebody joined or left the line of a conversation."""

    conversation_id: str


Note = Began | Over | Made | Changed | Deleted | Moved


class Fate(StrEnum):
    """What became of a conversation."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class ConversationEvent:
    """A conversation as it is now; of a deleted one, as it was."""

    fate: Fate
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Resync:
    """The reader fell behind and has missed something: what it knows is to be read anew."""


#: What who watches a conversation hears, and who watches all.
WatchEvent = TurnEvent | QueueChanged
News = WatchEvent | ConversationEvent | Resync

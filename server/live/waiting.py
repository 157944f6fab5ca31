"""Questions in line: what is told of each, and of a line that has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.port import BusyError

#: So many of a line are told, those that are called first, and so much of each prompt: whoever
#: watches is told of every change, and a line may be a thousand long.
MOST_TOLD, LONGEST_PROMPT = 100, 500


class WithdrawnError(BusyError):
    """A question that was taken back while it waited; to ask again is not what anybody wants."""

    waiting_helps = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question in line; `since` is in microseconds since 1970, its prompt perhaps cut short."""

    id: str
    prompt: str
    wire: str
    since: int


@dataclass(frozen=True, slots=True)
class Line:
    """The questions that wait in a conversation, in order; `count` is of all, told or not."""

    waiting: tuple[Waiting, ...] = ()
    count: int = 0


NOBODY = Line()


@dataclass(frozen=True, slots=True)
class QueueChanged:
    """Somebody joined or left the line of a conversation."""

    conversation_id: str
    line: Line


#: What a reader is to hear beside what it reads, if there is anything new.
Beside = Callable[[], QueueChanged | None]


def nothing() -> None:
    """Tell nothing beside."""


class LineWatch:
    """Tells whoever calls it of a line, where that is not what it was at the last call."""

    def __init__(self, conversation_id: str, now: Callable[[], Line]) -> None:
        self._conversation_id = conversation_id
        self._now = now
        self._told = NOBODY

    def __call__(self) -> QueueChanged | None:
        line = self._now()
        if line is self._told:
            return None
        self._told = line
        return QueueChanged(self._conversation_id, line)

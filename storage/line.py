"""Questions that wait in a conversation, as several nodes know them of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Whose it is, and the conversation.
Where = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """A question that waits; one that is `urgent` is called before all that are not."""

    where: Where
    id: str
    urgent: bool
    prompt: str
    wire: str
    since: int


@dataclass(frozen=True, slots=True)
class Standings:
    """The questions that wait in one conversation, the first of them in order.

    `count` is of all; `elsewhere` says whether any of them waits at another node.
    """

    first: Sequence[Standing]
    count: int
    elsewhere: bool

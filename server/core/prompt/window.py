"""What of a history fits a model's window: pure sums over counted tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.model import Message, Role


@dataclass(frozen=True, slots=True)
class Window:
    """A model's window, in tokens; the budget is what a prompt may use of it."""

    size: int
    reserved: int
    budget: int
    #: whether somebody told it
    known: bool = True
    #: how a prompt for it is counted: exact, upstream, learnt or guessed
    counted: str = "exact"
    #: what a prompt might use of what somebody told, where a smaller window was learnt
    most: int = 0


@dataclass(frozen=True, slots=True)
class Weighed:
    """A message with its own tokens, and all that sending it takes: 0 where it is never sent."""

    message: Message
    tokens: int
    cost: int


def trim(history: Iterable[Weighed], room: int, *, whole: bool = False) -> list[Weighed]:
    """Return the newest whole turns that fit into `room` tokens.

    `history` comes newest first and so does what is returned. A turn is a user's message with all
    that follows it; what stands before the first user's message goes with the root.
    """
    kept: list[Weighed] = []
    turn: list[Weighed] = []
    left = room
    for weighed in history:
        turn.append(weighed)
        left -= weighed.cost
        if left < 0:
            break
        if weighed.message.role is Role.USER or weighed.message.parent_id is None:
            kept += turn
            turn = []
    else:
        kept += turn if whole else []
    return kept


def turn_ends(history: Sequence[Weighed], *, whole: bool = False) -> list[int]:
    """Return where whole turns end in a history that comes newest first, as counts of messages.

    Turns are those of `trim`; `whole` makes one of what is left over at the end.
    """
    ends = [
        place + 1
        for place, weighed in enumerate(history)
        if weighed.message.role is Role.USER or weighed.message.parent_id is None
    ]
    if whole and history and ends[-1:] != [len(history)]:
        ends.append(len(history))
    return ends

"""Fits a conversation into a window: as many of its newest whole turns as will go, then slack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from server.core.prompt.composed import Composed, too_long
from server.core.prompt.window import Weighed, turn_ends
from storage.model import Role

#: What a prompt uses of its budget at most when turns have just left: an upstream's cache serves
#: whoever begins as before, so the beginning is held until the budget is used up again.
SLACK = 0.7
#: Taken for what a template adds to a message, in tokens, until the whole is counted.
_GUESS = 4

#: fills in the messages of a prompt, and what they come to
Write = Callable[[Composed], Awaitable[Composed]]


async def held(
    write: Write, bare: Composed, history: Sequence[Weighed], count: int, *, whole: bool = False
) -> Composed:
    """Return a prompt with the whole turns among the newest `count` messages, fitting or not."""
    ends = _ends(bare, history, whole=whole)
    kept = history[: max((end for end in ends if end <= count), default=ends[0])]
    return await write(replace(bare, history=history, kept=kept))


async def fitted(
    write: Write, bare: Composed, history: Sequence[Weighed], *, whole: bool = False
) -> Composed:
    """Keep so many of the newest whole turns of a history that slack is left, one if it fits.

    The whole is counted, never a sum. Where one begins is guessed, so that it takes a count or two
    more than were needed to know. Raises ContextLengthError where nothing fits.
    """
    ends = _ends(bare, history, whole=whole)
    found = await write(replace(bare, kept=history[: ends[0]]))
    if not fits(found):
        tokens = found.ours if found.window.counted == "learnt" else found.prompt_tokens
        if tokens <= found.window.most:  # by what was learnt of others: the upstream judges
            return replace(found, history=history)
        raise too_long(bare.window, found.prompt_tokens)
    budget = int(SLACK * bare.window.budget)
    room = budget - found.prompt_tokens
    # So many turns fit, so many do not; the probe goes on from the guess in growing steps.
    low, high, step = 0, len(ends), 1
    probe = _guess(history, ends, room)
    while high - low > 1:
        if not low < probe < high:
            probe = (low + high) // 2
        tried = await write(replace(bare, kept=history[: ends[probe]]))
        if tried.prompt_tokens <= budget:
            found, low, probe = tried, probe, probe + step
        else:
            high, probe = probe, probe - step
        step *= 2
    if low == 0 and len(ends) > 1:
        newest = await write(replace(bare, kept=history[: ends[1]]))
        found = newest if fits(newest) else found
    return replace(found, history=history)


def _ends(bare: Composed, history: Sequence[Weighed], *, whole: bool) -> list[int]:
    """Return with how many of the newest messages a prompt may begin; a tool's result is part of
    the newest turn, which is never sent in part: one of which not all was read is too long.
    """
    ends = turn_ends(history, whole=whole)
    if bare.role is not Role.TOOL:
        return [0, *ends]
    if history and not ends:
        read = sum(weighed.cost for weighed in history)
        raise too_long(bare.window, bare.scale.priming + bare.attached_tokens + read)
    return ends or [0]


def fits(composed: Composed) -> bool:
    return composed.prompt_tokens <= composed.window.budget


def _guess(history: Sequence[Weighed], ends: Sequence[int], room: int) -> int:
    """Return how many turns fit by a sum that is nearly right."""
    place = 0
    for turns, end in enumerate(ends):
        room -= sum(weighed.cost + _GUESS for weighed in history[place:end])
        if room < 0:
            return turns - 1
        place = end
    return len(ends) - 1

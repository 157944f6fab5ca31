"""Fits a conversation into a window as one text: as many of its newest turns as will go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from server.core.errors import InvalidRequestError
from server.core.prompt.composed import Composed, messages_of, too_long
from server.core.prompt.weigh import COUNT_AT_ONCE
from server.core.prompt.window import Weighed, turn_ends
from server.templates.template import TemplateError
from storage.model import PromptMessage, text_of

#: Taken for what a template adds to a message, in tokens, until the whole is counted.
_GUESS = 4


async def written(composed: Composed) -> Composed:
    """Write a prompt, as it is now, as one text and count that. Raises InvalidRequestError."""
    messages = messages_of(composed)
    # Short texts are written at once, long ones, and by other templates, on a thread.
    template = composed.scale.template
    assert template is not None  # noqa: S101 - who has none is sent messages
    if template.quick and sum(len(text_of(one.content)) for one in messages) <= COUNT_AT_ONCE:
        text, tokens = _text(composed, messages)
    else:
        text, tokens = await asyncio.to_thread(_text, composed, messages)
    return replace(composed, messages=messages, text=text, prompt_tokens=tokens)


async def fitted(bare: Composed, history: Sequence[Weighed], *, whole: bool = False) -> Composed:
    """Keep as many of the newest whole turns of a history as fit with what stands alone.

    The whole text is counted, never a sum. Where one begins is guessed, so that it takes a count or
    two more than were needed to know. Raises ContextLengthError where nothing fits.
    """
    ends = [0, *turn_ends(history, whole=whole)]
    found = await written(bare)
    if not fits(found):
        raise too_long(bare.window, found.prompt_tokens)
    room = bare.window.budget - found.prompt_tokens
    # So many turns fit, so many do not; the probe goes on from the guess in growing steps.
    low, high, step = 0, len(ends), 1
    probe = _guess(history, ends, room)
    while high - low > 1:
        if not low < probe < high:
            probe = (low + high) // 2
        tried = await written(replace(bare, kept=history[: ends[probe]]))
        if fits(tried):
            found, low, probe = tried, probe, probe + step
        else:
            high, probe = probe, probe - step
        step *= 2
    return replace(found, history=history)


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


def _text(composed: Composed, messages: Sequence[PromptMessage]) -> tuple[str, int]:
    template = composed.scale.template
    assert template is not None  # noqa: S101 - the same
    try:
        text = template.render(messages)
    except TemplateError as error:
        raise InvalidRequestError(str(error), template.param) from None
    return text, composed.scale.encoding.count(text)

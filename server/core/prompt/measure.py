"""Writes a prompt as it is sent and counts it: by our encoding, by the text, or by the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from server.core.errors import InvalidRequestError
from server.core.prompt.composed import Composed, messages_of, summed
from server.core.prompt.fit import Write
from server.core.prompt.learning import Learning
from server.core.prompt.weigh import COUNT_AT_ONCE
from server.templates.template import TemplateError
from server.upstream.model_info import ModelInfo
from server.upstream.port import Models
from storage.model import PromptMessage, text_of


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
    tokens = composed.scale.scaled(tokens)
    return replace(composed, messages=messages, text=text, prompt_tokens=tokens, estimate=tokens)


def asked(models: Models, learning: Learning, info: ModelInfo, *, refused: bool) -> Write:
    """Return a count by the upstream; where it does not count now, ours stands.

    One that `refused` a prompt that it had counted is believed no less than we count.
    """

    async def count(composed: Composed) -> Composed:
        whole = await summed(composed)
        found = await models.count(info, whole.messages)
        if found is None:
            known = learning.ratio(info.named) is not None
            window = replace(whole.window, counted="learnt" if known else "guessed")
            return replace(whole, window=window)
        learning.heard(info.named, whole.ours, found)
        told = found + composed.attached_tokens
        return replace(whole, prompt_tokens=max(told, whole.prompt_tokens) if refused else told)

    return count


def _text(composed: Composed, messages: Sequence[PromptMessage]) -> tuple[str, int]:
    template = composed.scale.template
    assert template is not None  # noqa: S101 - the same
    try:
        text = template.render(messages)
    except TemplateError as error:
        raise InvalidRequestError(str(error), template.param) from None
    return text, composed.scale.encoding.count(text)

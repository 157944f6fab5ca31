"""Weighs messages in one model's encoding, with what sending each takes."""

from __future__ import annotations

import asyncio
import math

from server.core.prompt.pairs import spoken
from server.core.prompt.window import Weighed
from server.openai_protocol.messages import CALLS, is_answer_to_a_call
from server.templates.template import Template
from server.tokens import counting
from server.tokens.encoding import Encoding
from server.tokens.models import model
from storage.model import Content, Message, Role, text_of
from storage.parts import is_erased

#: Longer texts are counted on a thread (tiktoken lets go of the GIL), shorter ones at once.
COUNT_AT_ONCE = 20_000


class Scale:
    """One model's encoding and the shape in which it is sent messages.

    With a template they are sent as one text: then a message weighs what its own text does, and
    what the template adds shows only in the count of the whole. Where the encoding is not the
    model's own, `ratio` is how many of its tokens one of ours is.
    """

    def __init__(
        self, name: str, encoding: Encoding, template: Template | None = None, ratio: float = 1.0
    ) -> None:
        self.model = model(name)
        self.encoding = encoding
        self.template = template
        self.ratio = ratio
        self._shape = counting.shape(name)
        self.priming = self.scaled(self._shape.priming if template is None else 0)

    def scaled(self, tokens: int) -> int:
        """Return our tokens as the model's."""
        return tokens if self.ratio == 1 else math.ceil(tokens * self.ratio)

    def cost(self, role: Role, content: Content, tokens: int) -> int:
        """Return the model's tokens of a message whose content has so many of ours."""
        if self.template is not None:
            return self.scaled(tokens)
        return self.scaled(
            counting.message_cost(self._shape, self.encoding, role, content, tokens=tokens)
        )

    async def count(self, content: Content) -> int:
        """Return the tokens of a content alone."""
        if self.template is not None:
            content = text_of(content)
        if isinstance(content, str) and len(content) <= COUNT_AT_ONCE:
            return self.encoding.count(content)
        return await asyncio.to_thread(
            counting.content_tokens, self.encoding, content, self._shape.images
        )

    async def weigh(self, message: Message) -> Weighed:
        """Weigh a message of the history. A tool's that names no call cannot be sent, nor can what
        was erased.
        """
        unpaired = message.role is Role.TOOL and not is_answer_to_a_call(message.content)
        if unpaired or is_erased(message.content):
            return Weighed(message, 0, 0)
        # What is kept was counted once, when it was written; an image weighs by model.
        tokens, said = message.tokens, spoken(message.content)
        if message.encoding != self.encoding.name or _has_images(said):
            tokens = await self.count(said)
        # Never nothing, so that no history of empty messages is read for ever.
        return Weighed(message, tokens, max(1, self.cost(message.role, said, tokens)))


def _has_images(content: Content) -> bool:
    """Say whether a content has parts that weigh differently for each model."""
    if isinstance(content, str):
        return False
    return any(part.get("type") not in (*CALLS, "text", "refusal") for part in content)

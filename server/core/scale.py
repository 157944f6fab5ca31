"""Weighs messages in one model's encoding, with all that sending them takes."""

from __future__ import annotations

import asyncio

from server.core.context import Weighed
from server.upstream import counting
from server.upstream.encoding import Encoding
from server.upstream.models import model
from storage.model import Content, Message, Role

#: Longer texts are counted on a thread (tiktoken lets go of the GIL), shorter ones at once.
COUNT_AT_ONCE = 20_000


class Scale:
    """One model's encoding and the shape in which it is sent messages."""

    def __init__(self, name: str, encoding: Encoding) -> None:
        self.model = model(name)
        self.encoding = encoding
        self._shape = counting.shape(name)
        self.priming = self._shape.priming

    def cost(self, role: Role, content: Content, tokens: int) -> int:
        """Return the tokens of a message whose content has so many."""
        return counting.message_cost(self._shape, self.encoding, role, content, tokens=tokens)

    async def count(self, content: Content) -> int:
        """Return the tokens of a content alone."""
        if isinstance(content, str) and len(content) <= COUNT_AT_ONCE:
            return self.encoding.count(content)
        return await asyncio.to_thread(
            counting.content_tokens, self.encoding, content, self._shape.images
        )

    async def weigh(self, message: Message) -> Weighed:
        """Weigh a message of the history; what another program's tool said is never sent."""
        if message.role is Role.TOOL:
            return Weighed(message, 0, 0)
        # What is kept was counted once, when it was written; an image weighs by model.
        tokens = message.tokens
        if message.encoding != self.encoding.name or not isinstance(message.content, str):
            tokens = await self.count(message.content)
        return Weighed(message, tokens, self.cost(message.role, message.content, tokens))

"""The tokens of a whole prompt, as OpenAI's cookbook adds them up."""

from __future__ import annotations

from collections.abc import Iterable

from server.tokens.counting import ChatShape, message_cost
from server.tokens.encoding import Encoding
from storage.model import PromptMessage


def prompt_cost(shape: ChatShape, encoding: Encoding, messages: Iterable[PromptMessage]) -> int:
    """Count the tokens of a whole prompt, with those that prime the answer."""
    return shape.priming + sum(
        message_cost(shape, encoding, message.role, message.content, message.name)
        for message in messages
    )

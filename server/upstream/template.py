"""Write a conversation as one text, for models that only continue text."""

from __future__ import annotations

from collections.abc import Sequence

from server.upstream.port import PromptMessage, text_of
from storage.model import Role

_SPEAKERS = {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.TOOL: "Tool"}
#: where an answer ends: the model goes on to write the user's next words
_TURN_OVER = "\nUser:"
#: OpenAI takes no more stop sequences than these
_MOST_STOPS = 4


def render(messages: Sequence[PromptMessage]) -> str:
    """Return the text whose continuation is the assistant's next words.

    System messages stand alone, the others after their speaker's name, and the last line is
    `Assistant:`; so the continuation begins with a space.
    """
    return "".join(map(_line, messages)) + "Assistant:"


def stops(own: Sequence[str]) -> list[str]:
    """Return the stop sequences of a rendered conversation: the caller's own come first."""
    return list(dict.fromkeys([*own, _TURN_OVER]))[:_MOST_STOPS]


def _line(message: PromptMessage) -> str:
    text = text_of(message.content)
    speaker = _SPEAKERS.get(message.role)
    return f"{text}\n\n" if speaker is None else f"{speaker}: {text}\n"

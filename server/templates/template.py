"""Write a conversation as one text, for models that only continue text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from storage.model import PromptMessage, Role, text_of

_SPEAKERS = {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.TOOL: "Tool"}
#: where an answer ends: the model goes on to write the user's next words
_TURN_OVER = "\nUser:"
#: OpenAI takes no more stop sequences than these
_MOST_STOPS = 4


class TemplateError(ValueError):
    """A template that cannot be rendered; the text says why, fit for the caller to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template(ABC):
    """A way to write a conversation as one text, whose continuation is the assistant's words."""

    #: what a model writes where its answer is over
    stops: tuple[str, ...] = ()
    #: the field in which a caller gave it or named it
    param: str | None = None
    #: rendering takes little longer than copying what is rendered
    quick: bool = True

    @abstractmethod
    def render(self, messages: Sequence[PromptMessage]) -> str:
        """Return the text. Raises TemplateError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Template):
    """System messages stand alone, the others after their speaker's name, as in a play.

    The last line is `Assistant:`; so the continuation begins with a space.
    """

    def render(self, messages: Sequence[PromptMessage]) -> str:
        return "".join(map(_line, messages)) + "Assistant:"


PLAIN = Plain(stops=(_TURN_OVER,))


def render(messages: Sequence[PromptMessage]) -> str:
    """Return a conversation as one text, in the shape for models of which nothing is known."""
    return PLAIN.render(messages)


def stops(own: Sequence[str], template: Template = PLAIN) -> list[str]:
    """Return the stop sequences of a rendered conversation: the caller's own come first."""
    return list(dict.fromkeys([*own, *template.stops]))[:_MOST_STOPS]


def _line(message: PromptMessage) -> str:
    text = text_of(message.content)
    speaker = _SPEAKERS.get(message.role)
    return f"{text}\n\n" if speaker is None else f"{speaker}: {text}\n"

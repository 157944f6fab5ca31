"""How long an upstream may take and how much it may say, by whichever door it is asked."""

from __future__ import annotations

from dataclasses import dataclass

from server.config.limits import ReplyLimits
from server.openai_protocol.response import Most

_MOST = ReplyLimits()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times in seconds, sizes in bytes.

    `first_byte` is for the first event of a stream: an answer in one piece comes when it is
    finished, and has the whole time. `linger` is for a stream's end, once its last word is known.
    With `comments_count` comments between events are signs of life, as data is.
    `answer_chars` is the text of a choice, however it comes, and `choices` how many there are;
    `answer_bytes` is an answer in one piece, and `parts` what it is made of, or an event is.
    """

    total: float = 600.0
    first_byte: float = 60.0
    between: float = 60.0
    linger: float = 5.0
    comments_count: bool = False
    answer_chars: int = _MOST.answer_chars
    answer_bytes: int = _MOST.answer_bytes
    event_bytes: int = _MOST.event_bytes
    choices: int = _MOST.choices
    parts: int = _MOST.parts

    @property
    def most(self) -> Most:
        """How much of an answer is read."""
        return Most(self.answer_chars, self.choices, self.parts)

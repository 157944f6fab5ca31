"""Puts the prompt before a text that was to `echo` it, where an upstream passes over that.

llama.cpp does, as many do; it tells the texts of tokens where it is asked. An upstream that echoes
is known by its text, which begins with the prompt; no more of a stream is held back than may still
be the beginning of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server.openai_protocol.codec import MalformedError
from server.openai_protocol.expectations import Expectations


@dataclass(slots=True)
class _Held:
    """What was said of a choice so far, all of it as its prompt has it."""

    texts: list[str] = field(default_factory=list)
    length: int = 0
    logprobs: dict[str, Any] | None = None

    def add(self, choice: dict[str, Any]) -> None:
        self.texts.append(choice["text"])
        self.length += len(choice["text"])
        said = choice["logprobs"]
        if self.logprobs is None or said is None:
            self.logprobs = self.logprobs or said
            return
        for name, values in said.items():
            if isinstance(values, list) and isinstance(known := self.logprobs.get(name), list):
                known += values


class Echo:
    """The prompts of one answer, for as many choices each; `most` characters are put in at most."""

    def __init__(self, expected: Expectations, most: int) -> None:
        self._prompts = expected.echoed
        self._each = max(1, expected.choices // max(1, len(expected.echoed)))
        self._left = most
        self._held: dict[int, _Held] = {}
        #: of choices that have begun, by how much their tokens stand farther behind
        self._shifts: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._prompts)

    def mend_all(self, choices: Sequence[dict[str, Any]]) -> bool:
        """Put the prompts before whole texts; say whether anything was changed."""
        mended = [self.mend(choice) for choice in choices]
        return any(mended)

    def mend(self, choice: dict[str, Any]) -> bool:
        """Put the prompt before the first text of a choice that is fit; see `mend_all`."""
        index = choice["index"]
        if (shift := self._shifts.get(index)) is not None:
            return _shift(choice["logprobs"], shift)
        held, prompt = self._held.setdefault(index, _Held()), self._prompt(index)
        echoes = _goes_on(prompt, held.length, choice["text"])
        held.add(choice)
        if echoes and held.length < len(prompt) and choice["finish_reason"] is None:
            choice |= {"text": "", "logprobs": None}
            return True
        del self._held[index]
        put = "" if echoes and held.length >= len(prompt) else prompt
        self._spend(len(put))
        self._shifts[index] = len(put)
        choice |= {"text": put + "".join(held.texts), "logprobs": held.logprobs}
        return _shift(held.logprobs, len(put)) or bool(put) or len(held.texts) > 1

    def close(self) -> list[dict[str, Any]]:
        """Return what is held back, as choices of a last chunk."""
        left: list[dict[str, Any]] = [
            {"index": index, "text": "", "logprobs": None, "finish_reason": "stop"}
            for index in self._held
        ]
        self.mend_all(left)
        return left

    def _prompt(self, index: int) -> str:
        number = index // self._each
        return self._prompts[number] if 0 <= number < len(self._prompts) else ""

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise MalformedError("the upstream's answer has more choices than are echoed")


def _goes_on(prompt: str, at: int, text: str) -> bool:
    """Say whether a text is what a prompt has there, or begins with all that it has left."""
    if len(text) <= len(prompt) - at:
        return prompt.startswith(text, at)
    return text.startswith(prompt[at:])


def _shift(logprobs: dict[str, Any] | None, by: int) -> bool:
    """Have tokens begin so much farther behind, where they are counted from the answer on."""
    offsets = (logprobs or {}).get("text_offset")
    if not (by and logprobs and isinstance(offsets, list)):
        return False
    logprobs["text_offset"] = [at + by if type(at) is int else at for at in offsets]
    return True

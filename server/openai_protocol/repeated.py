"""Recognises a chunk that repeats another but for its text, without reading its JSON again.

Nearly every chunk of a stream is such a one. What stands before and behind the text is compared
byte for byte, so that whatever was found of the chunk before holds for it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from server.openai_protocol.sse import is_plain

#: What ends a string of JSON, or is another letter than it looks like, or may not stand in it.
_SPECIAL: Final = re.compile(rb'["\\\x00-\x1f]')
#: Chunks that are remembered in vain before no more are: each of the stream has something new.
_TRIES: Final = 8


class RepeatedChunk:
    """A chunk of one choice that has text and nothing else, with a hole where its text was."""

    def __init__(self, *, chat: bool) -> None:
        #: what the text is called there
        self.name: Final = "content" if chat else "text"
        #: the choice's number
        self.index = 0
        self._chat = chat
        self._key = re.compile(rb'"%b"\s*:\s*"' % self.name.encode())
        self._before = self._behind = b""
        self._least = 0
        self._tries = _TRIES

    def text_of(self, event: bytes) -> str | None:
        """Return the text of an event that is the one remembered but for that, else None."""
        if not self._least or not (
            len(event) >= self._least
            and event.startswith(self._before)
            and event.endswith(self._behind)
        ):
            return None
        said = event[len(self._before) : len(event) - len(self._behind)]
        if _SPECIAL.search(said) is not None:
            return None
        try:
            text = said.decode()
        except UnicodeDecodeError:
            return None
        self._tries = _TRIES
        return text

    def learn(self, event: bytes, chunk: Mapping[str, Any]) -> None:
        """Remember a chunk that was right as it came, where it has nothing but text."""
        if not self._tries or (text := self._only_text(chunk)) is None or not is_plain(event):
            return
        if b"\\" in event or len(found := list(self._key.finditer(event))) != 1:
            return  # which of them is the text cannot be told by looking
        self._tries -= 1
        start = found[0].end()
        end = start + len(text.encode())
        self._before, self._behind = event[:start], event[end:]
        self._least = len(event) - (end - start)
        self.index = chunk["choices"][0]["index"]

    def _only_text(self, chunk: Mapping[str, Any]) -> str | None:
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or chunk.get("usage") is not None:
            return None
        choice = choices[0]
        if choice.get("finish_reason") or choice.get("logprobs"):
            return None
        said = choice.get("delta") if self._chat else choice
        if not isinstance(said, dict) or not isinstance(text := said.get(self.name), str):
            return None
        others = (value for name, value in said.items() if name not in (self.name, "role"))
        return text if not self._chat or not any(others) else None

"""Recognises a chunk that repeats the one before but for its text, without reading its JSON again.

Nearly every chunk of a stream is such a one. What stands before and behind the text is compared byte
for byte, so that whatever was found of the chunk before holds for it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from server.openai_protocol.sse import is_plain

#: What ends a string of JSON, or is another letter than it looks like, or may not stand in it.
_SPECIAL: Final = re.compile(rb'["\\\x00-\x1f]')
#: What a chunk may have beside a choice's text that is worth remembering: the same each time.
_CHOICE: Final = frozenset(("index", "delta", "text", "finish_reason", "logprobs"))


class RepeatedChunk:
    """The chunk that was read last, of one choice, with a hole where its text was."""

    def __init__(self, *, chat: bool) -> None:
        self._key = re.compile(rb'"%b"\s*:\s*"' % (b"content" if chat else b"text"))
        self._chat = chat
        self._before = self._behind = b""
        self._least = 0

    def text_of(self, event: bytes) -> str | None:
        """Return the text of an event that is the one before but for that, else None."""
        if not self._least or not (
            event.startswith(self._before)
            and event.endswith(self._behind)
            and len(event) >= self._least
        ):
            return None
        said = event[len(self._before) : len(event) - len(self._behind)]
        if _SPECIAL.search(said) is not None:
            return None
        try:
            return said.decode()
        except UnicodeDecodeError:
            return None

    def learn(self, event: bytes, chunk: Mapping[str, Any]) -> None:
        """Remember a chunk that has nothing but text, and was right as it came."""
        self._least = 0
        if (text := self._only_text(chunk)) is None or not is_plain(event):
            return
        if b"\\" in event or len(found := list(self._key.finditer(event))) != 1:
            return  # which of them is the text cannot be told by looking
        start = found[0].end()
        end = start + len(text.encode())
        self._before, self._behind = event[:start], event[end:]
        self._least = len(event) - (end - start)

    def _only_text(self, chunk: Mapping[str, Any]) -> str | None:
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or chunk.get("usage") is not None:
            return None
        choice = choices[0]
        if not _CHOICE.issuperset(choice) or choice.get("finish_reason") or choice.get("logprobs"):
            return None
        said = choice.get("delta") if self._chat else choice
        if not isinstance(said, dict):
            return None
        text = said.get("content" if self._chat else "text")
        if not isinstance(text, str):
            return None
        others = (value for name, value in said.items() if name not in ("content", "role"))
        return text if not self._chat or not any(others) else None

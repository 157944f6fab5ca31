"""What a request and its answer come to in tokens, and answers cut to so many."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.tokens.encoding import encoding
from server.tokens.request import encoding_name

_PIECE = re.compile(r"[^\s,:]*[\s,:]+|[^\s,:]+")


@dataclass(frozen=True, slots=True)
class Truncation:
    """A text as far as it may go, why it ends there, and its tokens."""

    text: str
    reason: str
    tokens: int


def cut(text: str, model_name: str, limit: int | None, stop: Sequence[str] = ()) -> Truncation:
    """Cut a text before the first of the stop sequences, then at so many tokens."""
    ends = [at for sequence in stop if sequence and (at := text.find(sequence)) >= 0]
    text = text[: min(ends, default=len(text))]
    words = encoding(encoding_name(model_name))
    tokens = words.encode(text)
    if limit is None or len(tokens) <= limit:
        return Truncation(text, "stop", len(tokens))
    # Half a letter at the end decodes to something else than what was said: leave it out.
    kept = words.decode(tokens[:limit])
    while not text.startswith(kept):
        kept = kept[:-1]
    return Truncation(kept, "length", limit)


def pieces(text: str) -> list[str]:
    """Return a text in the pieces that it is streamed in: words, or so much of JSON."""
    return _PIECE.findall(text)

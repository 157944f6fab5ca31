"""Scripts that are written without spaces: an index has each letter of theirs as a word."""

from __future__ import annotations

import re

_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)


def spaced(text: str) -> str:
    """Return a text whose letters of such scripts stand apart."""
    return _UNSPACED.sub(r" \1 ", text)

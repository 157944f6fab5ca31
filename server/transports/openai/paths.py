"""Which routes of `/v1` read a body whole, and which let it stream past."""

from __future__ import annotations

import re

PREFIX = "/v1"
_WHOLE = re.compile(
    r"/+(chat/+completions(/.*)?|completions|embeddings|moderations|edits|text_completion"
    r"|engines(/.*)?|internal/.*)/*"
)


def ours(path: str) -> bool:
    """Say whether a path is of OpenAI's API."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def streams_past(path: str) -> bool:
    """Say whether a path's body goes by without being held, and may be as large as an upload."""
    return ours(path) and _WHOLE.fullmatch(path.removeprefix(PREFIX)) is None

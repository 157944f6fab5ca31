"""Which routes of `/v1` read a body whole, and which let it stream past."""

from __future__ import annotations

import re

PREFIX = "/v1"
_WHOLE = re.compile(
    r"/+(chat/+completions(/.*)?|completions|embeddings|moderations|edits|text_completion"
    r"|engines(/.*)?|deployments/.*|internal/.*"
    r"|responses(/.*)?|conversations(/.*)?)/*"
)


def streams_past(path: str) -> bool:
    """Say whether a path's body goes by without being held, and may be as large as an upload."""
    return _WHOLE.fullmatch(path.removeprefix(PREFIX)) is None

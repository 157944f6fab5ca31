"""JSON of OpenAI's API: read strictly, written so that every client can read it."""

from __future__ import annotations

import json
from typing import Any

import orjson

from server.upstream.port import UpstreamFailedError

UNREADABLE = "the upstream sent something that cannot be read"


def parse(data: bytes) -> tuple[dict[str, Any], bool]:
    """Read a JSON object, and say whether its bytes are such as every reader takes.

    Half a surrogate pair, or a number that is none, is let through. Raises UpstreamFailedError.
    """
    good = True
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        good = False
        try:
            answer = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise UpstreamFailedError(UNREADABLE) from None
    if not isinstance(answer, dict):
        raise UpstreamFailedError(UNREADABLE)
    return answer, good


def encode(answer: object) -> bytes:
    """Write JSON; half a surrogate pair, which the fast writer refuses, is escaped.

    Raises UpstreamFailedError for values within values without end.
    """
    try:
        return orjson.dumps(answer)
    except TypeError:
        try:
            return json.dumps(answer, separators=(",", ":")).encode()
        except RecursionError:
            raise UpstreamFailedError(UNREADABLE) from None

"""JSON of OpenAI's API: read strictly, written so that every client can read it."""

from __future__ import annotations

import json
from typing import Any

import orjson


class MalformedError(ValueError):
    """What an upstream said is not what the API has; the text is fit for a caller to read."""


UNREADABLE = "the upstream sent something that cannot be read"


def parse(data: bytes) -> tuple[dict[str, Any], bool]:
    """Read a JSON object, and say whether its bytes are such as every reader takes.

    Half a surrogate pair, or a number that is none, is let through. Raises MalformedError.
    """
    good = True
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        good = False
        try:
            answer = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise MalformedError(UNREADABLE) from None
    if not isinstance(answer, dict):
        raise MalformedError(UNREADABLE)
    return answer, good


def encode(answer: object) -> bytes:
    """Write JSON; half a surrogate pair, which the fast writer refuses, is escaped.

    Raises MalformedError for values within values without end.
    """
    try:
        return orjson.dumps(answer)
    except TypeError:
        try:
            return json.dumps(answer, separators=(",", ":")).encode()
        except RecursionError:
            raise MalformedError(UNREADABLE) from None

"""How many choices a stream must finish, and whether it must report usage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.openai_protocol.codec import MalformedError, parse

#: the route of text completions
TEXTS = "/completions"
#: a body without any of these wants one choice, and no usage
_TELLING = (b'"n"', b"include_usage", b'"prompt"')


@dataclass(frozen=True, slots=True)
class Expectations:
    """How many choices a stream will have, and whether it is to tell its usage."""

    choices: int = 1
    usage: bool = False


def expectations_of(path: str, body: bytes) -> Expectations:
    """Return what a call wants; its body is read only where it may want more than one choice."""
    if not any(word in body for word in _TELLING):
        return Expectations()
    asked = asked_of(body)
    options = asked.get("stream_options")
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    prompts = _prompts(asked.get("prompt")) if path == TEXTS else 1
    return Expectations(_choices(asked) * prompts, usage)


def asked_of(body: bytes) -> dict[str, Any]:
    """Return the body of a call; an empty one where it is no JSON object."""
    try:
        return parse(body)[0] if body else {}
    except MalformedError:
        return {}


def _choices(asked: Mapping[str, Any]) -> int:
    n = asked.get("n")
    if isinstance(n, float) and not math.isfinite(n):  # the upstream judges
        return 1
    return max(int(n), 1) if isinstance(n, int | float) else 1


def _prompts(prompt: Any) -> int:
    """Return how many prompts there are: texts or lists of tokens, but not the tokens of one."""
    return len(prompt) if isinstance(prompt, list) and prompt and type(prompt[0]) is not int else 1

"""How many choices a stream must finish, whether it reports usage, and what texts echo."""

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
    """How many choices an answer will have, and whether a stream is to tell its usage.

    `echoed` are the prompts that texts are to begin with, in order: each has as many choices.
    """

    choices: int = 1
    usage: bool = False
    echoed: tuple[str, ...] = ()


def expectations_of(path: str, body: bytes) -> Expectations:
    """Return what a call wants; its body is read only where it may want more than one choice."""
    if not any(word in body for word in _TELLING):
        return Expectations()
    asked = asked_of(body)
    options = asked.get("stream_options")
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    if path != TEXTS:
        return Expectations(_choices(asked), usage)
    prompt = asked.get("prompt")
    return Expectations(_choices(asked) * _prompts(prompt), usage, _echoed(asked, prompt))


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


def echoed_tokens(body: bytes) -> list[list[int]]:
    """Return the prompts that a text is to echo where they are tokens; none where they are not."""
    asked = asked_of(body)
    prompt = asked.get("prompt")
    if asked.get("echo") is not True or not isinstance(prompt, list) or not prompt:
        return []
    prompts = [prompt] if type(prompt[0]) is int else prompt
    return prompts if all(isinstance(one, list) for one in prompts) else []


def _echoed(asked: Mapping[str, Any], prompt: Any) -> tuple[str, ...]:
    """Return the prompts to be echoed; none where they are tokens: see `echoed_tokens`."""
    if asked.get("echo") is not True:
        return ()
    prompts = prompt if isinstance(prompt, list) else [prompt]
    return tuple(prompts) if all(isinstance(one, str) for one in prompts) else ()

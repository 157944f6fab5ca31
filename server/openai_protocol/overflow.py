"""Reads from a refusal that a prompt was too long, and how long it was and might have been."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: What servers call it, in `code` or `type`.
_NAMES: Final = frozenset(
    ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")
)
#: How those say it that have no name for it.
_SAID: Final = re.compile(
    r"maximum context length|exceeds? (the )?(available |maximum |model's )?context"
    r"|context (length|window|size) (exceeded|of only)|longer than the maximum model length"
    r"|prompt is too long|exceeds the context window|greater than max_seq_len"
    r"|exceeds the maximum number of tokens allowed|max_new_tokens` must be <=",
    re.IGNORECASE,
)
#: With another status, whatever is said, it was not the length.
_STATUSES: Final = (400, 413, 422)
_NUMBER: Final = r"(\d{1,10})"
_MOST: Final = 10**10 - 1
#: The window: OpenAI's and vLLM's words, llama.cpp's, LM Studio's, TGI's, Gemini's, others'.
_WINDOWS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:maximum )?context length (?:is|of)(?: only)? {_NUMBER}",
        rf"available context size \({_NUMBER}",
        rf"with {_NUMBER} maximum context length",
        rf"maximum model length of {_NUMBER}",
        rf"max_seq_len {_NUMBER}",
        rf"must be <= {_NUMBER}",
        rf"tokens allowed \({_NUMBER}",
        rf"> {_NUMBER} maximum",
    )
)
#: The prompt, without what was to be kept for the answer.
_PROMPTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\({_NUMBER} in the (?:messages|prompt|input)",
        rf"Given: {_NUMBER}",
        rf"(?:resulted in|request has|request \(|contains(?: at least)?|first) {_NUMBER}",
        rf"request \({_NUMBER}",
        rf"prompt \(length {_NUMBER}",
        rf"token count \({_NUMBER}",
        rf"too long: {_NUMBER}",
        rf"Prompt length {_NUMBER}",
        rf"you requested {_NUMBER}",
    )
)


@dataclass(frozen=True, slots=True)
class Overflow:
    """A prompt of so many tokens was too long for a window of so many; None where nobody said."""

    tokens: int | None = None
    window: int | None = None
    #: it was called so, whatever else was said
    named: bool = field(default=False, compare=False)

    def at(self, status: int) -> bool:
        """Say whether it is that with this status of its answer."""
        return self.named or status in _STATUSES


def overflow_of(error: object) -> Overflow | None:
    """Return what an error object tells of a prompt that was too long; None: it is about else."""
    if not isinstance(error, Mapping):
        return None
    inner = error.get("error")
    error = inner if isinstance(inner, Mapping) else error
    said = str(error.get("message") or error.get("detail") or "")
    named = not _NAMES.isdisjoint((str(error.get("code")), str(error.get("type"))))
    other = str(error.get("code") or "400") not in ("400", "413", "422", "invalid_request_error")
    if not named and (other or not _SAID.search(said)):
        return None
    tokens = _whole(error, "n_prompt_tokens") or _first(_PROMPTS, said)
    window = _whole(error, "n_ctx") or _first(_WINDOWS, said)
    return Overflow(tokens, window, named)


def told_as_openai(error: dict[str, Any], told: object, status: int) -> dict[str, Any]:
    """Return an error object in the words that OpenAI's clients look for, if it is about length."""
    # OpenAI has no 422 for it: who answers with one is told on as it is.
    found = None if status == 422 else overflow_of(told)
    if found is None or not found.at(status) or error["code"] == "context_length_exceeded":
        return error
    message = error["message"]
    if "maximum context length" not in message:
        window = "what its server has" if found.window is None else f"{found.window} tokens"
        message = f"This model's maximum context length is {window}. {message}"
        if found.tokens is not None and found.window is not None:
            message = (
                f"This model's maximum context length is {found.window} tokens. However, your "
                f"messages resulted in {found.tokens} tokens. Please reduce the length of the "
                "messages."
            )
    own = {"code": "context_length_exceeded", "type": "invalid_request_error"}
    return error | own | {"message": message, "param": error.get("param") or "messages"}


def _whole(error: Mapping[str, Any], name: str) -> int | None:
    value = error.get(name)
    return value if type(value) is int and 0 < value <= _MOST else None


def _first(patterns: tuple[re.Pattern[str], ...], said: str) -> int | None:
    found = (match for pattern in patterns if (match := pattern.search(said)))
    match = next(found, None)
    return int(match[1]) if match else None

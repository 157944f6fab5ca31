"""Text completions as Eliza writes them: she answers what was said last in the prompt."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import orjson

from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.tokens.encoding import UnknownTokenError, encoding
from server.tokens.models import model
from server.tokens.request import encoding_name, usage
from server.upstream.local.chat import DONE, text
from server.upstream.local.eliza.script import Script
from server.upstream.local.requests import Options, read_options
from server.upstream.local.truncation import Truncation, cut, pieces
from storage.model import PromptMessage, Role

#: OpenAI's, where a request names no other.
DEFAULT_LIMIT = 16
MOST_TEXTS = 2_048
_MOST_BEST_OF = 20
_NO_PROMPT = "<|endoftext|>"
#: Who speaks in a conversation written as one text, and what was said; the newest is the last.
_LINE = re.compile(
    r"^ ?(?:<\|im_start\|>|#{1,6} ?)?(?:user|human|instruction|input|q|you|me) ?[:\n](.+?)"
    r"(?=<\|im_end\|>|^ ?(?:<\||#{1,6} |[\w .]{1,20}:)|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_HEARD = 8_000


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt as text, and its tokens as they were sent."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class TextCompletion:
    """A text completion that can be answered."""

    options: Options
    prompts: tuple[TextPrompt, ...]
    echo: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A completion answered: for every prompt its choices, one after another."""

    asked: TextCompletion
    choices: tuple[Truncation, ...]
    fingerprint: str
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(14)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def words(self) -> int:
        """Return how many pieces the longest choice is written in."""
        return max(len(pieces(choice.text)) for choice in self.choices)


def read_completion(asked: Fields, named: str | None) -> TextCompletion:
    """Read a request; `named` is the model that its path names. Raises RefusedError."""
    limit = asked.integer("max_tokens", 0)
    options = read_options(asked, named, DEFAULT_LIMIT if limit is None else limit)
    asked.integer("logprobs", 0, 5)  # null in her answers
    best = asked.integer("best_of", 1, _MOST_BEST_OF)
    if best is not None and best < options.n:
        raise ApiError(
            "You requested that the server return more choices than it will generate (HINT: you "
            "must set 'n' <= 'best_of').",
            "best_of",
        )
    if options.stream and best is not None and best > options.n:
        raise ApiError("Cannot stream results with best_of > n.", "best_of")
    asked.text("suffix")
    prompts = tuple(_prompts(asked, options.model))
    if len(prompts) * options.n > MOST_TEXTS:
        raise errors.overlong("prompt", MOST_TEXTS // options.n, len(prompts))
    window = model(options.model).window
    for prompt in prompts:
        if prompt.tokens > window:
            raise errors.overflow(window, prompt.tokens, "prompt")
    return TextCompletion(options, prompts, asked.flag("echo"))


def write(asked: TextCompletion, script: Script, fingerprint: str) -> Written:
    """Write all choices for all prompts."""
    choices = tuple(
        _choice(asked, prompt, turn, script)
        for prompt in asked.prompts
        for turn in range(asked.options.n)
    )
    return Written(asked, choices, fingerprint)


def whole(written: Written) -> bytes:
    """Return a completion in one piece."""
    choices = [
        _choice_object(index, _echoed(written, index) + choice.text, choice.reason)
        for index, choice in enumerate(written.choices)
    ]
    return orjson.dumps({**_head(written), "choices": choices, "usage": _usage(written)})


def rounds(written: Written) -> Iterator[list[bytes]]:
    """Yield a completion's events: what is echoed, a word of each choice at a time, the end."""
    echoed = range(len(written.choices)) if written.asked.echo else ()
    yield [_event(written, at, _echoed(written, at)) for at in echoed]
    for words in zip_longest(*(pieces(choice.text) for choice in written.choices)):
        yield [_event(written, index, word) for index, word in enumerate(words) if word is not None]
    ends = [_event(written, at, "", choice.reason) for at, choice in enumerate(written.choices)]
    if written.asked.options.include_usage:
        ends.append(_line({**_head(written), "choices": [], "usage": _usage(written)}))
    yield [*ends, DONE]


def _prompts(asked: Fields, model_name: str) -> Iterator[TextPrompt]:
    """Yield the texts of a prompt: one or several, as strings or as tokens."""
    prompt = asked.raw("prompt")
    words = encoding(encoding_name(model_name))
    match prompt:
        case None:
            yield TextPrompt(_NO_PROMPT, 1)
        case []:
            raise errors.empty("prompt")
        case [first, *_] if _is_token(first):
            yield _decoded(prompt, model_name, "prompt")
        case list():
            for number, one in enumerate(prompt):
                if isinstance(one, str):
                    yield TextPrompt(one, words.count(one))
                else:
                    yield _decoded(one, model_name, f"prompt[{number}]")
        case str():
            yield TextPrompt(prompt, words.count(prompt))
        case _:
            raise errors.mistyped("prompt", "one of a string or array", prompt)


def _decoded(tokens: object, model_name: str, param: str) -> TextPrompt:
    if not isinstance(tokens, list) or not tokens or not all(map(_is_token, tokens)):
        raise errors.mistyped(param, "one of a string or array of integers", tokens)
    try:
        return TextPrompt(encoding(encoding_name(model_name)).decode(tokens), len(tokens))
    except UnknownTokenError as error:
        raise ApiError(f"Invalid '{param}': {error}.", param, "invalid_value") from error


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _choice(asked: TextCompletion, prompt: TextPrompt, turn: int, script: Script) -> Truncation:
    heard = prompt.text[-_HEARD:]
    lines = _LINE.findall(heard)
    said = PromptMessage(Role.USER, lines[-1] if lines else heard)
    spoken = text((said,), asked.options, turn, script)
    space = "" if not prompt.text or prompt.text[-1].isspace() else " "
    return cut(space + spoken, asked.options.model, asked.options.limit, asked.options.stop)


def _echoed(written: Written, index: int) -> str:
    prompt = written.asked.prompts[index // written.asked.options.n]
    return prompt.text if written.asked.echo else ""


def _event(written: Written, index: int, piece: str, reason: str | None = None) -> bytes:
    chunk = {**_head(written), "choices": [_choice_object(index, piece, reason)]}
    if written.asked.options.include_usage:
        chunk["usage"] = None
    return _line(chunk)


def _line(chunk: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)


def _choice_object(index: int, piece: str, reason: str | None) -> dict[str, Any]:
    return {"text": piece, "index": index, "logprobs": None, "finish_reason": reason}


def _head(written: Written) -> dict[str, Any]:
    return {
        "id": written.id,
        "object": "text_completion",
        "created": written.created,
        "model": written.asked.options.model,
        "system_fingerprint": written.fingerprint,
    }


def _usage(written: Written) -> dict[str, Any]:
    prompt = sum(prompt.tokens for prompt in written.asked.prompts)
    return usage(prompt, sum(choice.tokens for choice in written.choices))

"""Embeddings and moderations in OpenAI's shapes, from an embedder in this process."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from server.openai_protocol import errors
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.tokens.encoding import UnknownTokenError, encoding
from server.upstream.local.embeddings.embedder import (
    SIZE,
    Embedder,
    EmbedderBusyError,
    NotInstalledError,
)
from server.upstream.local.embeddings.moderation import CATEGORIES, MODEL, Judgement, Moderator

#: OpenAI's limits: inputs of a request, tokens of an input, tokens of a request.
MOST_INPUTS = 2_048
MOST_TOKENS = 8_192
MOST_TOKENS_IN_ALL = 300_000
#: Letters that are moderated in one request.
MOST_LETTERS = 1_000_000

#: Numbers in the vectors of OpenAI's models: databases are laid out for so many.
_SIZES = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
_WORDS = "cl100k_base"
_ENCODINGS = ("float", "base64")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Texts to be embedded, and their tokens in all."""

    texts: tuple[str, ...]
    tokens: int


class Embeddings:
    """Answers with embeddings and judgements, or says how to get the extra."""

    def __init__(self, embedder: Embedder | None) -> None:
        self._embedder = embedder
        self._moderator = None if embedder is None else Moderator(embedder)

    async def embed(self, asked: Fields, named: str | None) -> bytes:
        """Answer a request for embeddings. Raises RefusedError."""
        model = asked.text("model") or named
        if not model:
            raise errors.missing("model")
        form = asked.one_of("encoding_format", _ENCODINGS) or "float"
        most = _SIZES.get(model, SIZE)
        size = asked.integer("dimensions", 1, most) or most
        asked.required("input")
        if self._embedder is None or not self._embedder.installed:
            _not_installed()
        inputs = await asyncio.to_thread(_inputs, asked.raw("input"))
        try:
            rows = await self._embedder.embed(inputs.texts, size)
        except EmbedderBusyError as error:
            raise _busy() from error
        return await asyncio.to_thread(_embeddings, model, inputs, rows, form)

    async def moderate(self, asked: Fields) -> bytes:
        """Answer a request for a moderation. Raises RefusedError."""
        asked.text("model")
        asked.required("input")
        texts = list(_moderated(asked))
        if self._moderator is None or self._embedder is None or not self._embedder.installed:
            _not_installed()
        judged = [text for text in texts if text]
        try:
            judgements = iter(await self._moderator.judge(judged) if judged else ())
        except EmbedderBusyError as error:
            raise _busy() from error
        results = [_result(next(judgements) if text else None) for text in texts]
        answer = {"id": f"modr-{secrets.token_hex(12)}", "model": MODEL, "results": results}
        return orjson.dumps(answer)


def _not_installed() -> NoReturn:
    message = str(NotInstalledError())
    raise ApiError(message, code="embeddings_not_installed", status=404)


def _busy() -> ApiError:
    return ApiError(
        "Too many requests for embeddings are waiting. Please try again in a few seconds.",
        code="rate_limit_exceeded",
        status=429,
        kind="requests",
        headers={"retry-after": "2"},
    )


def _inputs(value: Any) -> Inputs:
    """Read one or many texts, or one or many lists of tokens. Raises RefusedError."""
    match value:
        case str():
            read = [_read_text(value, "input")]
        case []:
            raise errors.empty("input")
        case [first, *_] if _is_token(first):
            read = [_read_tokens(value, "input")]
        case list():
            if len(value) > MOST_INPUTS:
                raise errors.overlong("input", MOST_INPUTS, len(value))
            read = [_read_one(one, f"input[{number}]") for number, one in enumerate(value)]
        case _:
            raise errors.mistyped("input", "one of a string or array", value)
    tokens = sum(count for _, count in read)
    if tokens > MOST_TOKENS_IN_ALL:
        raise ApiError(
            f"Invalid 'input': maximum request size is {MOST_TOKENS_IN_ALL} tokens per request.",
            "input",
            "max_tokens_per_request",
        )
    return Inputs(tuple(text for text, _ in read), tokens)


def _read_one(value: Any, param: str) -> tuple[str, int]:
    return _read_text(value, param) if isinstance(value, str) else _read_tokens(value, param)


def _read_text(text: str, param: str) -> tuple[str, int]:
    if not text:
        raise ApiError(f"Invalid '{param}': input cannot be an empty string.", "input")
    return text, _few_enough(encoding(_WORDS).count(text))


def _read_tokens(tokens: Any, param: str) -> tuple[str, int]:
    if not isinstance(tokens, list) or not all(map(_is_token, tokens)):
        raise errors.mistyped(param, "one of a string or array of integers", tokens)
    if not tokens:
        raise errors.empty(param)
    count = _few_enough(len(tokens))
    try:
        return encoding(_WORDS).decode(tokens), count
    except UnknownTokenError as error:
        raise ApiError(f"Invalid '{param}': {error}.", "input", "invalid_value") from error


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _few_enough(tokens: int) -> int:
    if tokens > MOST_TOKENS:
        raise ApiError(
            f"This model's maximum context length is {MOST_TOKENS} tokens, however you requested "
            f"{tokens} tokens ({tokens} in your prompt; 0 for the completion). Please reduce your "
            "prompt; or completion length.",
            "input",
        )
    return tokens


def _embeddings(model: str, inputs: Inputs, rows: Any, form: str) -> bytes:
    vectors: Sequence[Any] = rows
    if form == "base64":
        vectors = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": inputs.tokens, "total_tokens": inputs.tokens},
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _moderated(asked: Fields) -> Iterator[str]:
    """Yield the texts to be judged: one for each string, one for all parts of a message."""
    value = asked.raw("input")
    letters = 0
    match value:
        case str():
            texts = [value]
        case [str(), *_]:
            texts = list(asked.texts("input", MOST_INPUTS))
        case list():
            texts = ["\n".join(_part(part) for part in asked.parts("input") or ())]
        case _:
            raise errors.mistyped("input", "one of a string or array", value)
    for text in texts:
        letters += len(text)
        if letters > MOST_LETTERS:
            raise ApiError(
                f"Invalid 'input': maximum request size is {MOST_LETTERS} characters.", "input"
            )
        yield text.strip()


def _part(part: Fields) -> str:
    """Return the text of a part; pictures can not be judged, and say so in the answer."""
    part.required("type")
    kind = part.one_of("type", ("text", "image_url"))
    part.required(kind or "text")
    return part.text("text") or "" if kind == "text" else ""


def _result(judgement: Judgement | None) -> dict[str, Any]:
    def each(value: Callable[[str, Judgement], Any], otherwise: Any) -> dict[str, Any]:
        return {
            name: otherwise if judgement is None else value(name, judgement) for name in CATEGORIES
        }

    return {
        "flagged": judgement is not None and judgement.flagged,
        "categories": each(lambda name, known: known.belongs(name), otherwise=False),
        "category_scores": each(lambda name, known: known.scores[name], otherwise=0.0),
        "category_applied_input_types": each(lambda _, __: ["text"], otherwise=[]),
    }

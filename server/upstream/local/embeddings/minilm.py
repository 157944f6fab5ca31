"""The sentence embeddings of all-MiniLM-L6-v2, computed with numpy from the published weights.

A BERT encoder (Devlin et al., 2018) of six layers; the mean over a text's pieces, at unit length,
stands for its meaning. This module needs numpy, which only the extra `embeddings` brings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.upstream.local.embeddings.wordpiece import WordPieces
from server.upstream.port import UpstreamFailedError

Floats = NDArray[np.float32]

SIZE = 384
#: Pieces that the model reads at once, with the two that mark beginning and end.
WINDOW = 256
_ROOM = WINDOW - 2

_LAYERS = 6
_HEADS = 12
#: What is computed at once where there are many numbers a row, to stay in the processor's cache.
_ROWS = 64
_EPSILON = np.float32(1e-12)
_WEIGHTS = "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_VOCABULARY = "vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


class ModelFileError(UpstreamFailedError):
    """A file of the model is missing, or is not the one that was published."""


class MiniLM:
    """The model, read once from its folder; for one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Read and check the files. Raises ModelFileError."""
        vocabulary = _checked(folder, *_VOCABULARY).decode().splitlines()
        self._pieces = WordPieces(vocabulary)
        self._weights = _tensors(_checked(folder, *_WEIGHTS))

    def windows(self, text: str) -> list[list[int]]:
        """Cut a text into what the model can read at once; at least one window."""
        pieces = self._pieces.pieces(text)
        return [
            [self._pieces.begin, *pieces[start : start + _ROOM], self._pieces.end]
            for start in range(0, max(1, len(pieces)), _ROOM)
        ]

    def read(self, windows: Sequence[Sequence[int]]) -> Floats:
        """Return for each window the sum over its pieces, in a row of 384."""
        starts = np.cumsum([0, *(len(window) for window in windows)])
        spans = [slice(begin, end) for begin, end in pairwise(starts.tolist())]
        return np.add.reduceat(self._encoded(windows, spans), starts[:-1])

    def _encoded(self, windows: Sequence[Sequence[int]], spans: Sequence[slice]) -> Floats:
        """Return a row for every piece; the windows' pieces lie one after another, unpadded."""
        weights = self._weights
        states = weights["embeddings.word_embeddings.weight"][list(chain.from_iterable(windows))]
        places = weights["embeddings.position_embeddings.weight"]
        for span in spans:
            states[span] += places[: span.stop - span.start]
        states += weights["embeddings.token_type_embeddings.weight"][0]
        states = self._evened(states, "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            states = self._layer(states, spans, f"encoder.layer.{layer}")
        return states

    def _layer(self, states: Floats, spans: Sequence[slice], name: str) -> Floats:
        heard = self._attended(states, spans, f"{name}.attention.self")
        states = states + self._dense(heard, f"{name}.attention.output.dense")
        states = self._evened(states, f"{name}.attention.output.LayerNorm")
        wide = self._dense(states, f"{name}.intermediate.dense")
        for start in range(0, len(wide), _ROWS):
            _gelu(wide[start : start + _ROWS])
        states = states + self._dense(wide, f"{name}.output.dense")
        return self._evened(states, f"{name}.output.LayerNorm")

    def _attended(self, states: Floats, spans: Sequence[slice], name: str) -> Floats:
        query, key, value = (
            self._dense(states, f"{name}.{part}").reshape(len(states), _HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        query = query * np.float32(1 / math.sqrt(SIZE // _HEADS))
        heard = np.empty_like(states)
        for span in spans:
            scores = query[:, span] @ key[:, span].swapaxes(1, 2)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            heard[span] = (scores @ value[:, span]).swapaxes(0, 1).reshape(-1, SIZE)
        return heard

    def _dense(self, states: Floats, name: str) -> Floats:
        states = states @ self._weights[f"{name}.weight"].T
        states += self._weights[f"{name}.bias"]
        return states

    def _evened(self, states: Floats, name: str) -> Floats:
        states = states - states.mean(axis=-1, keepdims=True)
        states /= np.sqrt(np.square(states).mean(axis=-1, keepdims=True) + _EPSILON)
        states *= self._weights[f"{name}.weight"]
        states += self._weights[f"{name}.bias"]
        return states


def unit(sums: Sequence[Floats], size: int) -> Floats:
    """Return rows of the first `size` numbers, each row at unit length.

    More than there are is filled with zeros, which change no length and no angle.
    """
    rows = np.stack(sums)[:, :size]
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _EPSILON)
    rows = np.pad(rows, ((0, 0), (0, max(0, size - rows.shape[1]))))
    return np.ascontiguousarray(rows, dtype=np.float32)


def _gelu(states: Floats) -> None:
    """Weigh each number by the share of the normal distribution below it, in place.

    The error function is Abramowitz and Stegun's 7.1.26, right to seven digits.
    """
    size = np.abs(states)
    size *= np.float32(math.sqrt(0.5))
    step = 1 / (np.float32(0.3275911) * size + 1)
    tail = np.float32(1.061405429) * step
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += np.float32(factor)
        tail *= step
    tail *= np.exp(-np.square(size))
    tail *= np.abs(states)
    np.maximum(states, 0, out=states)
    states -= np.float32(0.5) * tail


def _checked(folder: Path, name: str, sha256: str) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the model's file {name}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(f"the model's file {name} is damaged; install the extra again")
    return content


def _tensors(content: bytes) -> Mapping[str, Floats]:
    """Read a safetensors file: the length of a JSON head, the head, then the numbers."""
    end = 8 + int.from_bytes(content[:8], "little")
    head: dict[str, Any] = json.loads(content[8:end])
    return {
        name: np.frombuffer(
            content, "<f4", math.prod(entry["shape"]), end + entry["data_offsets"][0]
        ).reshape(entry["shape"])
        for name, entry in head.items()
        if entry.get("dtype") == "F32"
    }

"""The sentence embeddings of all-MiniLM-L6-v2, computed with numpy from the published weights.

A BERT encoder (Devlin et al., 2018) of six layers; the mean over a text's pieces, at unit length,
stands for its meaning. This module needs numpy, which only the extra `embeddings` brings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.upstream.wordpiece import WordPieces

Floats = NDArray[np.float32]

SIZE = 384
#: Pieces that the model reads at once, with the two that mark beginning and end.
WINDOW = 256
_ROOM = WINDOW - 2

_LAYERS = 6
_HEADS = 12
_EPSILON = np.float32(1e-12)
_WEIGHTS = "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_VOCABULARY = "vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


class ModelFileError(RuntimeError):
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
        """Return for each window the sum over its pieces, in a row of 384; windows are padded."""
        lengths = np.array([len(window) for window in windows])
        pieces = np.zeros((len(windows), int(lengths.max())), dtype=np.int64)
        for row, window in enumerate(windows):
            pieces[row, : len(window)] = window
        there = np.arange(pieces.shape[1]) < lengths[:, None]
        return _summed(self._encoded(pieces, there), there)

    def _encoded(self, pieces: NDArray[np.int64], there: NDArray[np.bool_]) -> Floats:
        weights = self._weights
        states = weights["embeddings.word_embeddings.weight"][pieces]
        states += weights["embeddings.position_embeddings.weight"][: pieces.shape[1]]
        states += weights["embeddings.token_type_embeddings.weight"][0]
        states = self._evened(states, "embeddings.LayerNorm")
        # What is padding gets no attention.
        mask = np.where(there, np.float32(0), np.float32(-1e9))[:, None, None, :]
        for layer in range(_LAYERS):
            states = self._layer(states, mask, f"encoder.layer.{layer}")
        return states

    def _layer(self, states: Floats, mask: Floats, name: str) -> Floats:
        heard = self._attended(states, mask, f"{name}.attention.self")
        heard = self._dense(heard, f"{name}.attention.output.dense")
        states = self._evened(states + heard, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._dense(states, f"{name}.intermediate.dense"))
        return self._evened(
            states + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attended(self, states: Floats, mask: Floats, name: str) -> Floats:
        query, key, value = (
            _by_head(self._dense(states, f"{name}.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(SIZE // _HEADS)) + mask
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ value).swapaxes(1, 2).reshape(states.shape)

    def _dense(self, states: Floats, name: str) -> Floats:
        flat = states.reshape(-1, states.shape[-1]) @ self._weights[f"{name}.weight"].T
        flat += self._weights[f"{name}.bias"]
        return flat.reshape(*states.shape[:-1], -1)

    def _evened(self, states: Floats, name: str) -> Floats:
        states = states - states.mean(axis=-1, keepdims=True)
        states /= np.sqrt(np.square(states).mean(axis=-1, keepdims=True) + _EPSILON)
        states *= self._weights[f"{name}.weight"]
        states += self._weights[f"{name}.bias"]
        return states


def _summed(states: Floats, there: NDArray[np.bool_]) -> Floats:
    return (states * there[:, :, None]).sum(axis=1, dtype=np.float32)


def _by_head(states: Floats) -> Floats:
    rows, length, _ = states.shape
    return states.reshape(rows, length, _HEADS, -1).swapaxes(1, 2)


def _gelu(states: Floats) -> Floats:
    """Weigh by the normal distribution, to the precision of 32 bits.

    The error function is Abramowitz and Stegun's 7.1.26.
    """
    size = np.abs(states) * np.float32(math.sqrt(0.5))
    step = 1 / (1 + np.float32(0.3275911) * size)
    series = np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * step + np.float32(factor)
    tail = series * step * np.exp(-np.square(size)) * np.float32(0.5)
    return states * np.where(states < 0, tail, 1 - tail)


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

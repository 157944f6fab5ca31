"""What the header of a GGUF file says of the model in it; nothing of it is ever executed."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
#: how the types of numbers are written, by their numbers in the file
_NUMBERS: Final = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
#: of one key, one text, one list of numbers, all keys, all tensors; more is no model's header
_LONGEST_KEY, _LONGEST_TEXT, _LONGEST_LIST = 1 << 12, 16 << 20, 1 << 16
_MOST_KEYS, _MOST_TENSORS, _MOST_DIMENSIONS = 1 << 16, 1 << 20, 8
#: bytes of a number in the cache of keys and values
_CACHED = 2
_QUANTS: Final = (
    "F32 F16 Q4_0 Q4_1 Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
    "IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16 "
    "TQ1_0 TQ2_0"
)
_FILE_TYPES: Final = dict(zip((*range(4), *range(7, 33), 36, 37), _QUANTS.split(), strict=True))


class NotGGUFError(Exception):
    """A file that holds no model that can be loaded; the text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a model before it is loaded."""

    architecture: str
    name: str | None
    licence: str | None
    #: how its weights are stored, `Q4_K_M` say
    quant: str | None
    #: tokens that it was trained for
    window: int
    parameters: int
    #: bytes of keys and values that one token takes
    bytes_per_token: int
    #: it has a chat template of its own
    template: bool
    #: it makes vectors of text, and no text
    embeds: bool
    #: this file is one of so many that the model is in
    files: int


def read_header(path: Path) -> Header:
    """Read the header of a file. Raises NotGGUFError; OSError where it cannot be read."""
    with path.open("rb") as file:
        return _header(_Reader(file, path.stat().st_size))


def _header(reader: _Reader) -> Header:
    if reader.take(4) != MAGIC:
        raise NotGGUFError("it is no GGUF file")
    version = reader.number("I")
    if version not in _VERSIONS:
        raise NotGGUFError(f"its format has version {version}; 2 and 3 can be read")
    tensors = reader.count("Q", _MOST_TENSORS)
    keys = reader.count("Q", _MOST_KEYS)
    values = dict(reader.pair() for _ in range(keys))
    parameters, end = 0, 0
    for _ in range(tensors):
        size, offset = reader.tensor()
        parameters += size
        end = max(end, offset)
    if reader.at + end >= reader.size:
        raise NotGGUFError("it is cut short")
    return _described(values, parameters)


def _described(values: dict[str, Any], parameters: int) -> Header:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture.isprintable():
        raise NotGGUFError("it does not say which architecture it has")

    def number(name: str, default: int = 0) -> int:
        value = values.get(f"{architecture}.{name}", default)
        return value if isinstance(value, int) and value >= 0 else default

    return Header(
        architecture=architecture,
        name=_text(values, "general.name"),
        licence=_text(values, "general.license"),
        quant=_FILE_TYPES.get(values.get("general.file_type", -1)),
        window=number("context_length"),
        parameters=parameters,
        bytes_per_token=_bytes_per_token(values, architecture, number),
        template="tokenizer.chat_template" in values,
        embeds=f"{architecture}.pooling_type" in values,
        files=values.get("split.count", 1) or 1,
    )


def _bytes_per_token(values: dict[str, Any], architecture: str, number: Callable[..., int]) -> int:
    """Return what the keys and values of one token take, over all layers, in bytes."""
    heads = number("attention.head_count", 1) or 1
    each = number("embedding_length") // heads
    width = number("attention.key_length", each) + number("attention.value_length", each)
    layers = number("block_count")
    shared = values.get(f"{architecture}.attention.head_count_kv", heads)
    if isinstance(shared, list):  # by layer
        return sum(one for one in shared[:layers] if isinstance(one, int)) * width * _CACHED
    return layers * number("attention.head_count_kv", heads) * width * _CACHED


def _text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value[:256] if isinstance(value, str) and value.isprintable() else None


class _Reader:
    """A header read from its beginning; what points behind the file's end is refused."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    @property
    def at(self) -> int:
        return self._file.tell()

    def take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise NotGGUFError("it is cut short")
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def count(self, form: str, most: int) -> int:
        count: int = self.number(form)
        if count > most:
            raise NotGGUFError("its header is damaged")
        return count

    def text(self, most: int) -> str:
        return self.take(self.count("Q", most)).decode("utf-8", "replace")

    def pair(self) -> tuple[str, Any]:
        return self.text(_LONGEST_KEY), self.value(self.number("I"))

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text(_LONGEST_TEXT)
        if kind == _ARRAY:
            return self._list(self.number("I"), self.number("Q"))
        if kind not in _NUMBERS:
            raise NotGGUFError("its header is damaged")
        return self.number(_NUMBERS[kind])

    def _list(self, kind: int, count: int) -> list[Any] | None:
        """Return a list of numbers; None for what is skipped: texts, and a list that is long."""
        if kind == _STRING and count <= self.size // 8:
            for _ in range(count):
                self._skip(self.number("Q"))
            return None
        if kind not in _NUMBERS or count > self.size:
            raise NotGGUFError("its header is damaged")
        form = _NUMBERS[kind]
        if count > _LONGEST_LIST:
            self._skip(count * struct.calcsize(f"<{form}"))
            return None
        return [self.number(form) for _ in range(count)]

    def _skip(self, size: int) -> None:
        if size > self.size - self.at:
            raise NotGGUFError("it is cut short")
        self._file.seek(size, 1)

    def tensor(self) -> tuple[int, int]:
        """Return how many numbers a tensor has, and where it begins behind the header."""
        self.text(_LONGEST_KEY)
        shape = [self.number("Q") for _ in range(self.count("I", _MOST_DIMENSIONS))]
        self.number("I")
        return math.prod(shape), self.number("Q")

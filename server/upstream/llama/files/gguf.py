"""What the header of a GGUF file says of the model in it; nothing of it is ever executed."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
#: how the types of numbers are written, by their numbers in the file
_NUMBERS: Final = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
#: of one key, all keys, all tensors, one list of texts; more is no model's header
_LONGEST_KEY, _MOST_KEYS, _MOST_TENSORS, _MOST_DIMENSIONS = 1 << 12, 1 << 16, 1 << 17, 8
_MOST_TEXTS = 1 << 22
#: a longer text, or list of numbers, is passed over: it is none of those that are asked for
_LONGEST_TEXT, _LONGEST_LIST = 1 << 20, 1 << 10
#: bytes of all that is not passed over
_MOST_KEPT = 4 << 20
#: a number beyond is none
_LARGEST = 1 << 48
_DAMAGED = "its header is damaged"
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
    #: this file is one of so many that the model is in, and which: the first is 0
    files: int
    piece: int


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
    pairs = (reader.pair() for _ in range(keys))
    values = _Values({key: value for key, value in pairs if value is not None})
    parameters, end = 0, 0
    for _ in range(tensors):
        size, offset = reader.tensor()
        parameters += size
        end = max(end, offset)
    if tensors and reader.at + end >= reader.size:
        raise NotGGUFError("it is cut short")
    return _described(values, parameters)


def _described(values: _Values, parameters: int) -> Header:
    architecture = values.text("general.architecture") or ""
    if not architecture and not values.number("split.no"):
        raise NotGGUFError("it does not say which architecture it has")
    return Header(
        architecture=architecture,
        name=values.text("general.name"),
        licence=values.text("general.license"),
        quant=_FILE_TYPES.get(values.number("general.file_type", -1)),
        window=values.number(f"{architecture}.context_length"),
        parameters=parameters,
        bytes_per_token=_bytes_per_token(values, architecture),
        template="tokenizer.chat_template" in values,
        embeds=f"{architecture}.pooling_type" in values,
        files=values.number("split.count", 1) or 1,
        piece=values.number("split.no"),
    )


def _bytes_per_token(values: _Values, architecture: str) -> int:
    """Return what the keys and values of one token take, over all layers, in bytes."""
    heads = values.by_layer(f"{architecture}.attention.head_count", 1)
    each = values.number(f"{architecture}.embedding_length") // (heads[0] or 1)
    key, value = (
        values.number(f"{architecture}.attention.{name}_length", each) for name in ("key", "value")
    )
    layers = values.number(f"{architecture}.block_count")
    shared = values.by_layer(f"{architecture}.attention.head_count_kv", heads[0] or 1)
    all_heads = layers * shared[0] if len(shared) == 1 else sum(shared[:layers])
    return all_heads * (key + value) * _CACHED


class _Values:
    """What a header says, by its keys; what is there has the kind that it must have."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """Return a short text; None for one that is none, or would move a cursor."""
        value = self._values.get(name)
        return value[:256] if isinstance(value, str) and value.isprintable() else None

    def number(self, name: str, default: int = 0) -> int:
        """Return a number that counts something. Raises NotGGUFError."""
        value = self._values.get(name, default)
        if value is not default and not _counts(value):
            raise NotGGUFError(f"{_DAMAGED}: {name[:64]!r} is no number that can be")
        return int(value)

    def by_layer(self, name: str, default: int) -> Sequence[int]:
        """Return the numbers of a model's layers; one where all have the same."""
        value = self._values.get(name)
        if not isinstance(value, list) or not value:
            return [self.number(name, default)]
        if not all(_counts(one) for one in value):
            raise NotGGUFError(f"{_DAMAGED}: {name[:64]!r} are no numbers that can be")
        return value


def _counts(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


class _Reader:
    """A header read from its beginning; what points behind the file's end is refused."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._kept = 0
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
            raise NotGGUFError(_DAMAGED)
        return count

    def text(self, most: int) -> str:
        return self.take(self.count("Q", most)).decode("utf-8", "replace")

    def pair(self) -> tuple[str, Any]:
        """Return a key and its value; None for one that is passed over."""
        begun = self.at
        key, value = self.text(_LONGEST_KEY), self._value(self.number("I"))
        if value is not None:
            self._kept += self.at - begun
        if self._kept > _MOST_KEPT:
            raise NotGGUFError(_DAMAGED)
        return key, value

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            size: int = self.number("Q")
            if size <= _LONGEST_TEXT:
                return self.take(size).decode("utf-8", "replace")
            self._skip(size)
            return None
        if kind == _ARRAY:
            return self._list(self.number("I"), self.number("Q"))
        if kind not in _NUMBERS:
            raise NotGGUFError(_DAMAGED)
        return self.number(_NUMBERS[kind])

    def _list(self, kind: int, count: int) -> list[Any] | None:
        """Return a list of numbers; None for what is skipped: texts, and a list that is long."""
        if kind == _STRING and count <= _MOST_TEXTS:
            for _ in range(count):
                self._skip(self.number("Q"))
            return None
        if kind not in _NUMBERS or count > self.size:
            raise NotGGUFError(_DAMAGED)
        form = _NUMBERS[kind]
        if count > _LONGEST_LIST:
            self._skip(count * struct.calcsize(f"<{form}"))
            return None
        return [self.number(form) for _ in range(count)]

    def _skip(self, size: int) -> None:
        """Pass over what is not kept."""
        if size > self.size - self.at:
            raise NotGGUFError("it is cut short")
        self._file.seek(size, 1)

    def tensor(self) -> tuple[int, int]:
        """Return how many numbers a tensor has, and where it begins behind the header."""
        self.text(_LONGEST_KEY)
        shape = [self.number("Q") for _ in range(self.count("I", _MOST_DIMENSIONS))]
        self.number("I")
        return math.prod(shape), self.number("Q")

"""The fields of a JSON object that a client sent, read one by one and refused where wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from server.openai_protocol import errors
from server.openai_protocol.surrogates import whole


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a request; `where` is its path. A null field is an absent one.

    Every method raises RefusedError.
    """

    values: Mapping[str, Any]
    where: str = ""

    def path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def raw(self, name: str) -> Any:
        return self.values.get(name)

    def required(self, name: str) -> Any:
        value = self.values.get(name)
        if value is None:
            raise errors.missing(self.path(name))
        return value

    def text(self, name: str) -> str | None:
        value: str | None = self._typed(name, str, "a string")
        return value

    def flag(self, name: str) -> bool:
        return bool(self._typed(name, bool, "a boolean"))

    def integer(self, name: str, least: int | None = None, most: int | None = None) -> int | None:
        value = self._number(name, "an integer")
        if isinstance(value, float) and not value.is_integer():
            raise errors.mistyped(self.path(name), "an integer", value)
        self._within(name, "integer", value, least, most)
        return None if value is None else int(value)

    def decimal(self, name: str, least: float, most: float) -> float | None:
        value = self._number(name, "a decimal")
        self._within(name, "decimal", value, least, most)
        return value

    def one_of(self, name: str, known: Sequence[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in known:
            raise errors.unknown_value(self.path(name), value, known)
        return value

    def part(self, name: str) -> Fields | None:
        """Return the fields of an object within this one."""
        value = self._typed(name, dict, "an object")
        return None if value is None else Fields(value, self.path(name))

    def parts(self, name: str) -> list[Fields] | None:
        """Return the fields of each object in an array."""
        items = self._typed(name, list, "an array of objects")
        if items is None:
            return None
        if not items:
            raise errors.empty(self.path(name))
        paths = [f"{self.path(name)}[{number}]" for number in range(len(items))]
        for path, item in zip(paths, items, strict=True):
            if not isinstance(item, dict):
                raise errors.mistyped(path, "an object", item)
        return [Fields(item, path) for path, item in zip(paths, items, strict=True)]

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """Return one string or an array of them as strings."""
        value = self.raw(name)
        match value:
            case None:
                return ()
            case str():
                return (value,)
            case list() if all(isinstance(item, str) for item in value):
                if len(value) > most:
                    raise errors.overlong(self.path(name), most, len(value))
                return tuple(value)
            case _:
                expected = "one of a string or array of strings"
                raise errors.mistyped(self.path(name), expected, value)

    def _typed(self, name: str, kind: type, expected: str) -> Any:
        value = self.raw(name)
        if value is not None and not isinstance(value, kind):
            raise errors.mistyped(self.path(name), expected, value)
        return value

    def _number(self, name: str, expected: str) -> int | float | None:
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise errors.mistyped(self.path(name), expected, value)
        return value

    def _within(
        self, name: str, word: str, value: float | None, least: float | None, most: float | None
    ) -> None:
        if value is None:
            return
        if least is not None and value < least:
            raise errors.below(self.path(name), word, least, value)
        if most is not None and value > most:
            raise errors.above(self.path(name), word, most, value)


def read(body: bytes) -> Fields:
    """Read a request's body. Raises RefusedError.

    Half a surrogate pair, which the fast parser refuses, becomes U+FFFD: browsers cut texts there.
    """
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            values = orjson.loads(whole(json.dumps(json.loads(body), ensure_ascii=False)))
        except (ValueError, RecursionError):
            raise errors.unreadable() from None
    if not isinstance(values, dict):
        raise errors.unreadable()
    return Fields(values)

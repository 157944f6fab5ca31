"""The fields of a JSON object, each read as what it must be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from server.core import validation
from server.core.errors import InvalidRequestError
from server.core.ids import check_id
from storage.model import Content

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordFields:
    """An object of a file; every reader raises InvalidRequestError that names the field."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise InvalidRequestError(f"{path or 'A conversation'} must be an object.", path)
        self._value: dict[str, Any] = value
        self._path = path

    def name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def refuse(self, key: str, must: str) -> InvalidRequestError:
        return InvalidRequestError(f"{self.name(key)} must be {must}.", self.name(key))

    def maybe(self, read: Callable[[str], T], key: str) -> T | None:
        """Read a field that may be null or missing."""
        return None if self._value.get(key) is None else read(key)

    def text(self, key: str) -> str:
        value = self._value.get(key)
        if not isinstance(value, str):
            raise self.refuse(key, "a string")
        return value

    def short(self, key: str, longest: int = validation.LONGEST_NAME) -> str:
        return validation.short_text(self.text(key), self.name(key), longest)

    def id(self, key: str) -> str:
        return check_id(self.text(key), self.name(key))

    def one_of(self, kind: Callable[[str], T], key: str) -> T:
        try:
            return kind(self.text(key))
        except ValueError:
            raise self.refuse(key, "one of the words that there are for it") from None

    def whole(self, key: str, least: int = 0) -> int:
        value = self._value.get(key)
        if type(value) is not int or not least <= value < validation.LARGEST_INTEGER:
            raise self.refuse(key, "a whole number")
        return value

    def flag(self, key: str) -> bool:
        value = self._value.get(key)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def signed(self, key: str) -> int:
        return self.whole(key, 1 - validation.LARGEST_INTEGER)

    def time(self, key: str) -> int:
        """Read RFC 3339 as microseconds since 1970."""
        found = moment(self.text(key))
        if found is None:
            raise self.refuse(key, "an RFC 3339 time")
        return found

    def part(self, key: str) -> RecordFields:
        return RecordFields(self._value.get(key), self.name(key))

    def parts(self, key: str) -> list[RecordFields]:
        """Read a list of objects; a missing one is empty."""
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise self.refuse(key, "a list")
        return [RecordFields(one, f"{self.name(key)}[{place}]") for place, one in enumerate(value)]

    def object(self, key: str) -> dict[str, Any]:
        return self.part(key)._value

    def content(self, key: str) -> Content:
        """Read a string, or a list of parts that each have a type."""
        value = self._value.get(key)
        if not isinstance(value, str | list):
            raise self.refuse(key, "a string or a list of parts")
        for part in self.parts(key) if isinstance(value, list) else ():
            match part.short("type"):
                case "text":
                    part.text("text")
                case "image_url":
                    part.part("image_url").text("url")
        if isinstance(value, list):
            validation.portable(value, self.name(key))
        return value


def moment(text: str) -> int | None:
    """Return RFC 3339 as microseconds since 1970; None for what is none, or before then."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    micros = (time - _EPOCH) // timedelta(microseconds=1)
    return micros if micros >= 0 else None

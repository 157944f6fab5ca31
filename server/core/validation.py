"""Validate questions, whichever wire brings them: what each field may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from server.core import validation
from server.core.errors import InvalidRequestError
from storage.model import Content, text_of

MOST_STOPS = 4
LARGEST_METADATA = 16 << 10
DEEPEST_METADATA = 20
#: of a body that is read and written again: the fast writer takes 254 levels
DEEPEST_JSON = 200
LONGEST_TITLE = 200
LONGEST_NAME = 256
LONGEST_KEY = 255
LONGEST_QUERY = 256
LARGEST_PAGE = 100
LARGEST_INTEGER = 1 << 63


def text(value: str, param: str) -> str:
    """Return text that every wire and the database can carry, or refuse it."""
    if "\x00" in value:
        raise InvalidRequestError(f"{param} must not contain NUL characters.", param)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            f"{param} must be valid Unicode: it has half of a surrogate pair.", param
        ) from None
    return value


def known(value: str | None, param: str) -> None:
    """Refuse an id that nothing can have; None is no id and fine."""
    if value is not None:
        short_text(value, param, LONGEST_NAME)


def short_text(value: str, param: str, longest: int) -> str:
    if len(value) > longest:
        raise InvalidRequestError(f"{param} must be at most {longest} characters.", param)
    return text(value, param)


def name(value: str, param: str) -> str:
    """Return a name such as a model's: one line, not empty."""
    if not value.strip() or not value.isprintable():
        raise InvalidRequestError(f"{param} must be a name.", param)
    return short_text(value, param, LONGEST_NAME)


def content(value: Content, param: str = "prompt") -> Content:
    """Return a question's content, or refuse it; empty is refused, white space alone too."""
    if isinstance(value, str):
        if not value.strip():
            raise InvalidRequestError(f"{param} must not be empty.", param)
        return text(value, param)
    if not value:
        raise InvalidRequestError("content must have at least one part.", "content")
    parts = [_part(part, f"content[{place}]") for place, part in enumerate(value)]
    if not any(part["type"] != "text" or str(part["text"]).strip() for part in parts):
        raise InvalidRequestError("content must not be empty.", "content")
    return parts


def spoken(value: Any, param: str = "messages") -> None:
    """Refuse what cannot be kept of a message in OpenAI's shape, whatever its parts are."""
    if not isinstance(value, str):
        portable(value, param)
    waiting: list[Any] = [value]
    while waiting:
        match waiting.pop():
            case str() as words:
                text(words, param)
            case Mapping() as fields:
                waiting += [*fields, *fields.values()]
            case list() | tuple() as items:
                waiting += items


def _part(value: Mapping[str, Any], param: str) -> dict[str, Any]:
    match value:
        case {"type": "text", "text": str(words)}:
            return {"type": "text", "text": text(words, param)}
        case {"type": "image_url", "image_url": {"url": str(url), **more}}:
            detail = more.get("detail", "auto")
            if more.keys() - {"detail"} or detail not in ("auto", "low", "high"):
                raise InvalidRequestError(f"{param}.image_url takes url and detail.", param)
            return {
                "type": "image_url",
                "image_url": {"url": text(url, param), "detail": detail},
            }
    raise InvalidRequestError(
        f'{param} must be {{"type": "text", "text": …}} or '
        '{"type": "image_url", "image_url": {"url": …}}.',
        param,
    )


def number(
    value: float | None, param: str, least: float, most: float, *, whole: bool = False
) -> None:
    """Refuse a number out of bounds; None is no number and fine."""
    if value is None:
        return
    kind = "a whole number" if whole else "a number"
    if not least <= value <= most:
        raise InvalidRequestError(f"{param} must be {kind} from {least:g} to {most:g}.", param)


def stops(value: Sequence[str]) -> tuple[str, ...]:
    if len(value) > MOST_STOPS or not all(value):
        raise InvalidRequestError(f"stop must be at most {MOST_STOPS} non-empty strings.", "stop")
    return tuple(text(one, "stop") for one in value)


def metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata, any JSON object of at most 16 KiB, or refuse it."""
    if portable(value, "metadata") > LARGEST_METADATA:
        raise InvalidRequestError("metadata must be at most 16 KiB.", "metadata")
    if depth(value) > DEEPEST_METADATA:
        raise InvalidRequestError(
            f"metadata must be at most {DEEPEST_METADATA} levels deep.", "metadata"
        )
    return dict(value)


def portable(value: Any, param: str) -> int:
    """Return the size of JSON that every wire can carry and everybody can read, or refuse it.

    Its whole numbers have at most 64 bits: the fast writer writes no larger ones.
    """
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        orjson.dumps(value)
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{param} has half of a surrogate pair.", param) from None
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequestError(
            f"{param} must be JSON, with numbers of at most 64 bits.", param
        ) from None
    return len(written)


def depth(value: Any) -> int:
    """Return how deep objects and lists stand in one another."""
    deep, level = 0, [value]
    while level:
        deep += 1
        inner = [
            one.values() if isinstance(one, dict) else one
            for one in level
            if isinstance(one, dict | list)
        ]
        level = [child for children in inner for child in children]
    return deep


def limit(value: int) -> int:
    number(value, "limit", 1, LARGEST_PAGE, whole=True)
    return value


def cursor(value: int) -> int:
    number(value, "after", 0, LARGEST_INTEGER - 1, whole=True)
    return value


def title_of(question: Content) -> str:
    """Return the start of a question, on one line, as a conversation's title."""
    words = " ".join(text_of(question)[:400].split())
    if len(words) <= 60:
        return words
    cut = words[:60]
    return (cut.rsplit(" ", 1)[0] if " " in cut[20:] else cut) + "…"


def checked(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what may be changed of a conversation, or refuse it."""
    checked: dict[str, Any] = {}
    for field, value in changes.items():
        match field, value:
            case "title", str():
                checked[field] = validation.short_text(value, field, validation.LONGEST_TITLE)
            case "system_prompt", None | "":
                checked[field] = None
            case "system_prompt", str():
                checked[field] = validation.text(value, field)
            case "model", None | "":
                checked[field] = None
            case "model", str():
                checked[field] = validation.name(value, field)
            case "metadata", Mapping():
                checked[field] = validation.metadata(value)
            case "head_id", str():
                validation.known(value, field)
                checked[field] = value
            case ("truncation", "trim" | "summarize") | ("pinned", bool()):
                checked[field] = value
            case _:
                raise InvalidRequestError(f"{field} cannot be changed to that.", field)
    return checked

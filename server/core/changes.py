"""What may be changed of a conversation, and to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.core import validation
from server.core.errors import InvalidRequestError


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
            case "truncation", "trim" | "summarize":
                checked[field] = value
            case _:
                raise InvalidRequestError(f"{field} cannot be changed to that.", field)
    return checked

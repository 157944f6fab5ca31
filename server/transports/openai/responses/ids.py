"""Ids of responses and items: the letters of the turns and messages that they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.openai_protocol.messages import RUN_HERE, TO_APPROVE
from storage.parts import Kind, Part

_PREFIXES = {
    Kind.REASONING: "rs",
    Kind.TOOL_CALL: "fc",
    Kind.CUSTOM_TOOL_CALL: "ctc",
    Kind.TOOL_RESULT: "fco",
}
_MESSAGE = "msg_"
_ITEM = re.compile(r"(?P<prefix>msg|rs|fc|ctc|fco|ctco|cmp|mcp|mcpr)_(?P<letters>.+)")
_PLACE = re.compile(r"(?P<letters>.+)_(?P<place>\d{1,6})")


def response_id(turn_id: str) -> str:
    return f"resp_{turn_id.removeprefix('turn_')}"


def turn_id(response: str) -> str | None:
    """Return the turn that a response is; None for what is no response's id."""
    letters = response.removeprefix("resp_")
    return f"turn_{letters}" if letters != response else None


def served(part: Part) -> str | None:
    """Return the prefix of a call of a tool that the server runs; None for all other parts."""
    named = part.id or ""
    if part.kind is not Kind.TOOL_CALL:
        return None
    prefix = next((one for one in (RUN_HERE, TO_APPROVE) if named.startswith(one)), None)
    return prefix and prefix.removesuffix("_")


def is_own_result(part: Part) -> bool:
    """Say whether a part is the result of a call that the server ran: the call's item has it."""
    return part.kind is Kind.TOOL_RESULT and (part.id or "").startswith(RUN_HERE)


def part_id(message_id: str, part: Part, place: int) -> str:
    """Return the id of the item that the part at a place of an answer is."""
    return item_id(message_id, served(part) or part.kind, place)


def item_id(message_id: str, prefix: str | Kind = "msg", place: int = 0) -> str:
    """Return the id of the item that a message is, or the part at a place of it."""
    named = _PREFIXES.get(prefix, "msg") if isinstance(prefix, Kind) else prefix
    id_ = f"{named}_{message_id.removeprefix(_MESSAGE)}"
    return f"{id_}_{place}" if place else id_


def places(item: str) -> Iterator[tuple[str, int]]:
    """Yield which message an item may be of, and which part; what was imported has any id."""
    found = _ITEM.fullmatch(item)
    if found is None:
        return
    letters = found["letters"]
    for message_id in (_MESSAGE + letters, letters):
        yield message_id, 0
    if (part := _PLACE.fullmatch(letters)) is not None:
        for message_id in (_MESSAGE + part["letters"], part["letters"]):
            yield message_id, int(part["place"])

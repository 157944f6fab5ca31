"""Pages of lists as OpenAI's API has them: what a query asks for, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from server.openai_protocol.errors import ApiError, quote, unknown_value

_ORDERS = ("asc", "desc")


@dataclass(frozen=True, slots=True)
class Paging:
    """How many are wanted, behind which, and in which order; `others` is what else is asked."""

    limit: int
    after: str | None
    oldest_first: bool
    others: Mapping[str, str]


def paging_of(query: str, order: str) -> Paging:
    """Return what a query asks for; `order` is used where it names none. Raises RefusedError."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    asked = given.pop("order", None) or order
    if asked not in _ORDERS:
        raise unknown_value("order", asked, _ORDERS)
    limit = given.pop("limit", None) or "20"
    if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit[:9]) <= 100:
        raise ApiError(
            "Invalid 'limit': expected an integer between 1 and 100.", "limit", "invalid_value"
        )
    return Paging(int(limit), given.pop("after", None) or None, asked == "asc", given)


def listed(data: Sequence[Mapping[str, Any]], *, more: bool) -> dict[str, Any]:
    """Return a list object."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}


def page_of(
    oldest_first: Sequence[Mapping[str, Any]],
    asked: Paging,
    missing: Callable[[str], Exception] | None = None,
) -> dict[str, Any]:
    """Return a page of what is there, all of it at hand."""
    every = oldest_first if asked.oldest_first else oldest_first[::-1]
    places = {one["id"]: place for place, one in enumerate(every, start=1)}
    if asked.after and asked.after not in places:
        raise (missing or _no_such)(asked.after)
    behind = every[places[asked.after] if asked.after else 0 :]
    return listed(behind[: asked.limit], more=len(behind) > asked.limit)


def _no_such(after: str) -> ApiError:
    return ApiError(f"There is no message '{quote(after)}'.", "after", status=404)

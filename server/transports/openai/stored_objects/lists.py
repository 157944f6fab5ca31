"""A list of what is stored at an upstream, of which a caller sees its own alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from server.core.passthrough import Passthrough
from server.openai_protocol.codec import encode, parse
from server.openai_protocol.errors import ApiError, quote, unsupported
from server.transports.openai.exchange import Exchange
from server.transports.openai.stored_objects.ownership import Ownership
from server.transports.openai.stored_objects.resources import ResourceRule
from server.transports.openai.upstream_json import refuse_bad
from server.upstream.bodies import whole
from server.upstream.port import Call, UpstreamFailedError

_ANSWER_BYTES = 64 << 20
#: of everybody's: so many a page of the upstream's, and so many pages for one of ours
_PAGE = 100
_MOST_PAGES = 100
_TOO_FAR = (
    f"Nothing of yours is among the {_PAGE * _MOST_PAGES} things behind this place of the list, "
    "and there are more. Ask behind ('after') something of yours."
)
#: what a client that does not say how many gets, as at OpenAI, or nearly so
_DEFAULT = 20


class OwnLists:
    """Shows pages of a caller's own things, filled from as many of the upstream's as it takes."""

    def __init__(self, passthrough: Passthrough, ownership: Ownership) -> None:
        self._passthrough = passthrough
        self._ownership = ownership

    async def page(self, exchange: Exchange, rule: ResourceRule, call: Call) -> None:
        """Answer with one page; `call` is for the upstream's own list. Raises RefusedError."""
        query, limit, after = _asked(call.query)
        if after is not None:
            await self._ownership.own(exchange.request, {after: "after"})
        found: list[dict[str, Any]] = []
        further, pages = await self._ownership.has(exchange, rule.made), 0
        call = replace(call, method="GET")
        while further and len(found) <= limit and pages < _MOST_PAGES:
            behind = [] if after is None else [("after", after)]
            asked = urlencode([*query, ("limit", str(_PAGE)), *behind])
            own, last = await self._page(exchange, rule, replace(call, query=asked))
            found += own
            further, after, pages = last not in (None, after), last, pages + 1
        if further and not found:
            raise ApiError(_TOO_FAR, status=503, kind="server_error")
        await exchange.answer(_shown(found[:limit], more=further or len(found) > limit))

    async def _page(
        self, exchange: Exchange, rule: ResourceRule, call: Call
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return the caller's own of a page of the upstream's, and behind what the next begins."""
        async with self._passthrough.call(call) as reply:
            await refuse_bad(reply)
            answer, _ = parse(await whole(reply.body, _ANSWER_BYTES))
        listed = answer.get("data")
        if not isinstance(listed, list):
            raise UpstreamFailedError("the upstream's list is none")
        named = [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]
        mine = await self._ownership.mine(exchange, (one["id"] for one in named))
        here = {id_ for id_, known in mine.items() if known.upstream == reply.upstream}
        own = [one for one in named if one["id"] in here]
        await self._ownership.learn(exchange, rule, None, encode({"data": own}), reply)
        return own, named[-1]["id"] if named and answer.get("has_more") else None


def _shown(found: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    first, last = (found[0]["id"], found[-1]["id"]) if found else (None, None)
    return {"object": "list", "data": found, "first_id": first, "last_id": last, "has_more": more}


def _asked(query: str) -> tuple[list[tuple[str, str]], int, str | None]:
    """Return what a query wants besides, how many, and behind which. Raises RefusedError."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if given.get("before"):
        raise unsupported("before")
    limit = given.get("limit") or str(_DEFAULT)
    if not (limit.isascii() and limit.isdigit()) or not int(limit[:9]):
        raise ApiError(f"Invalid 'limit': '{quote(limit)}'.", "limit", "invalid_value")
    others = [pair for pair in pairs if pair[0] not in ("limit", "after", "before")]
    return others, min(int(limit[:9]), _PAGE), given.get("after") or None

"""What is stored at an upstream is its maker's alone, though all share the upstream's one key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from server.core.completions import UpstreamObjects
from server.openai_protocol.codec import MalformedError, encode, parse
from server.openai_protocol.errors import ApiError, quote
from server.openai_protocol.sse import Cutter, OversizedEventError, data_of
from server.transports.openai.body import read_json
from server.transports.openai.exchange import Exchange
from server.transports.openai.request import Caller
from server.transports.openai.stored_objects.references import may_name, named_in
from server.transports.openai.stored_objects.resources import Does, ResourceRule, told
from server.upstream.bodies import EVENTS, JSON, one, whole
from server.upstream.port import Reply, UpstreamError, UpstreamFailedError
from storage.model import UpstreamObject
from storage.port import UnavailableError

T = TypeVar("T")
#: what of an answer is held to see whose it is
_ANSWER_BYTES = 64 << 20
_EVENT_BYTES = 16 << 20
#: kinds of what goes when that goes under which it was made
_WITHIN = ("items", "parts")


class Ownership:
    """Knows who made what, learns it from answers, and refuses what is not the caller's."""

    def __init__(self, objects: UpstreamObjects) -> None:
        self._objects = objects

    async def shared(self, caller: Caller) -> bool:
        """Say whether anybody but the caller has, or may have, things at the upstreams."""
        return not (caller.alone() and await self._objects.alone(caller.owner))

    async def guarded(self, caller: Caller, body: bytes) -> bytes:
        """Return the JSON body of a completion, say, as it is to be sent on. Raises RefusedError.

        One that names things is written anew: of a field that is there twice, the upstream might
        read the other.
        """
        if not may_name(body) or not await self.shared(caller):
            return body
        values = read_json(body).values
        await self.own(caller, await named_in(values, len(body), strict=False))
        return encode(values)

    async def own(self, caller: Caller, named: Mapping[str, str]) -> Mapping[str, UpstreamObject]:
        """Return the caller's things by their ids, each given with the field that names it.

        Raises RefusedError where one is not the caller's, or is not there: it says the same.
        """
        mine = await self._objects.own(caller.owner, named)
        for id_, field in named.items():
            if id_ not in mine:
                raise no_such(id_, field)
        return mine

    async def mine(self, exchange: Exchange, ids: Iterable[str]) -> Mapping[str, UpstreamObject]:
        """Return what of this is the caller's."""
        return await self._objects.own(exchange.request.owner, set(ids))

    async def has(self, exchange: Exchange, kind: str) -> bool:
        return await self._objects.has(exchange.request.owner, kind)

    async def heard(
        self,
        exchange: Exchange,
        rule: ResourceRule,
        path_ids: Mapping[str, str],
        reply: Reply,
        *,
        adopt: bool = False,
    ) -> Reply:
        """Return a reply as it may be passed on: whose the things in it are is kept by then.

        `path_ids` are those of the path with their kinds; `adopt` keeps them as the caller's.
        """
        if reply.status >= 400:
            return reply
        if rule.does is Does.DELETES:
            *_, (id_, kind) = path_ids.items()
            gone = UpstreamObject(id_, kind, reply.upstream)
            with suppress(UnavailableError):  # a name that stays names nothing
                await to_its_end(self._objects.forget(exchange.request.owner, gone))
            return reply
        if adopt:
            with suppress(UnavailableError):  # it is adopted when it is asked for again
                await self._learn(exchange, reply, list(path_ids.items()), None)
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        within = next(iter(path_ids), None)
        if rule.places and kind == EVENTS:
            return replace(reply, body=self._events(exchange, rule, within, reply))
        if rule.places and kind == JSON:
            reading = self._read(exchange, rule, within, reply)
            data = await (to_its_end(reading) if exchange.request.method == "POST" else reading)
            return replace(reply, body=one(data))
        return reply

    async def learn(
        self, exchange: Exchange, rule: ResourceRule, within: str | None, data: bytes, reply: Reply
    ) -> str | None:
        """Keep whose the things in an answer or an event are; return what they are within.

        Raises UpstreamFailedError for something new that has the id of what is somebody else's.
        """
        found = told(rule, _parsed(data))
        made = {id_ for id_, kind in found if kind == rule.made and rule.does is Does.MAKES}
        within = within or next(iter(made), None)
        try:
            mine = await self._learn(exchange, reply, found, within)
        except UnavailableError:
            if exchange.request.method == "POST":
                raise
            return within  # it is learnt when it is read again
        if not made <= mine:
            raise UpstreamFailedError("the upstream named something new as it names another's")
        return within

    async def _read(
        self, exchange: Exchange, rule: ResourceRule, within: str | None, reply: Reply
    ) -> bytes:
        data = await whole(reply.body, _ANSWER_BYTES)
        await self.learn(exchange, rule, within, data, reply)
        return data

    async def _events(
        self, exchange: Exchange, rule: ResourceRule, within: str | None, reply: Reply
    ) -> AsyncIterator[bytes]:
        """Yield whole events, each when whose the things in it are is kept."""
        cutter = Cutter(_EVENT_BYTES)
        try:
            async for piece in reply.body:
                for event in cutter.feed(piece):
                    within = await self.learn(exchange, rule, within, data_of(event), reply)
                    yield event
        except OversizedEventError:
            raise UpstreamFailedError("the upstream sent an event that is too long") from None
        except UpstreamError:
            if cutter.rest:
                yield cutter.rest
            raise
        if rest := cutter.rest:
            await self.learn(exchange, rule, within, data_of(rest), reply)
            yield rest

    async def _learn(
        self, exchange: Exchange, reply: Reply, found: list[tuple[str, str]], within: str | None
    ) -> set[str]:
        mine: set[str] = set()
        for under in (None, within):
            named = [
                UpstreamObject(id_, kind, reply.upstream)
                for id_, kind in found
                if (kind in _WITHIN) == (under is not None)
            ]
            if named:
                mine |= set(await self._objects.remember(exchange.request.owner, named, under))
        return mine


def _parsed(data: bytes) -> Mapping[str, Any]:
    """Return an answer; one that cannot be read names nothing."""
    try:
        return parse(data)[0] if data else {}
    except MalformedError:
        return {}


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do what must not be left in the middle, though who asked for it hangs up meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.cancelled() or task.exception()  # nobody is there any more to hear of it
        raise


def no_such(id_: str, field: str) -> ApiError:
    """Return the refusal of what is somebody else's, or nobody's: nothing tells which."""
    code = "previous_response_not_found" if field == "previous_response_id" else None
    return ApiError(f"No such object: '{quote(id_)}'.", field or None, code, 404)

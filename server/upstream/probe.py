"""Whether an upstream can be reached and takes its key, and which models it lists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from server.openai_protocol.codec import MalformedError, parse
from server.upstream.bodies import whole
from server.upstream.port import Call, OpenAISpeaker, UpstreamTimeoutError

SECONDS = 10.0
_LIST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Probed:
    """How an upstream answered when it was asked for its models; those it listed, if it did."""

    status: int
    models: tuple[str, ...] | None


async def probe(speaker: OpenAISpeaker) -> Probed:
    """Ask an upstream for its models. Raises UpstreamError where it cannot be reached."""
    try:
        async with asyncio.timeout(SECONDS), speaker.call(Call("GET", "/models")) as reply:
            data = await whole(reply.body, _LIST_BYTES)
    except TimeoutError:
        raise UpstreamTimeoutError("the upstream did not answer in time") from None
    return Probed(reply.status, _listed(data) if reply.status == 200 else None)


def _listed(data: bytes) -> tuple[str, ...] | None:
    try:
        listed = parse(data)[0].get("data")
    except MalformedError:
        return None
    if not isinstance(listed, list):
        return None
    return tuple(str(one["id"]) for one in listed if isinstance(one, dict) and "id" in one)

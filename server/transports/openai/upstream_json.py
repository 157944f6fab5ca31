"""Ask an upstream for a JSON answer of which another one is made."""

from __future__ import annotations

from typing import Any

from server.config.limits import ReplyLimits
from server.core.passthrough import Passthrough
from server.openai_protocol.codec import parse
from server.transports.openai.errors import PassedOnError
from server.upstream.bodies import start_of, whole
from server.upstream.port import Call, Reply

_REFUSAL_BYTES = ReplyLimits().refusal_bytes
_ANSWER_BYTES = ReplyLimits().answer_bytes
_OF_THE_BODY = ("content-length", "content-type")


async def ask(passthrough: Passthrough, call: Call) -> dict[str, Any]:
    """Return an upstream's answer. Raises PassedOnError for its refusal."""
    return (await hear(passthrough, call))[0]


async def hear(passthrough: Passthrough, call: Call) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an upstream's answer, and its headers that are fit to go with what is made of it.

    Raises PassedOnError for its refusal.
    """
    async with passthrough.call(call) as reply:
        await refuse_bad(reply)
        return parse(await whole(reply.body, _ANSWER_BYTES))[0], beside(reply)


def beside(reply: Reply) -> dict[str, str]:
    """Return a reply's headers without those of its body."""
    return {name: value for name, value in reply.headers.items() if name not in _OF_THE_BODY}


async def refuse_bad(reply: Reply) -> None:
    """Raise PassedOnError for a reply that is a refusal."""
    if reply.status >= 400:
        body = await start_of(reply.body, _REFUSAL_BYTES)
        raise PassedOnError(reply.status, reply.headers, body)

"""Hands requests on that hold no state and want what only an upstream with this API can do."""

from __future__ import annotations

from server.core.passthrough import Passthrough
from server.openai_protocol.fields import Fields
from server.transports.openai.exchange import Exchange
from server.transports.openai.passthrough import PassthroughRoutes
from server.transports.openai.responses.tools import hosted
from server.upstream.port import UpstreamRejectedError

_STATE = ("previous_response_id", "conversation")
_ENCRYPTED = "reasoning.encrypted_content"


class HandingOn:
    """What is kept nowhere is the upstream's to answer, byte for byte."""

    def __init__(self, passthrough: Passthrough, plain: PassthroughRoutes) -> None:
        self._passthrough = passthrough
        self._plain = plain

    async def takes(self, exchange: Exchange, body: bytes, asked: Fields) -> bool:
        """Hand a request on, and say whether that was done."""
        if not _is_theirs(asked) or not self._has_api(asked.raw("model")):
            return False
        exchange.body.give_back(body)
        await self._plain.anything(exchange)
        return True

    def _has_api(self, model: object) -> bool:
        try:
            return self._passthrough.first(model if isinstance(model, str) else None).responses
        except UpstreamRejectedError:
            return False


def _is_theirs(asked: Fields) -> bool:
    if asked.raw("store") is not False or any(asked.raw(name) for name in _STATE):
        return False
    include = asked.raw("include")
    return hosted(asked) or (isinstance(include, list) and _ENCRYPTED in include)

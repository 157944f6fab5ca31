"""Chat completions: the straight path from a client to an upstream and back."""

from __future__ import annotations

from server.core.passthrough import Passthrough
from server.openai_protocol.codec import encode
from server.openai_protocol.fields import Fields
from server.transports.openai import validation
from server.transports.openai.body import read_json
from server.transports.openai.chat.conversation import HEADER, Joined
from server.transports.openai.chat.stored import Stored
from server.transports.openai.chat.templates import Shaped, concerns
from server.transports.openai.exchange import Exchange
from server.transports.openai.spellings import modern


class ChatRoutes:
    """The routes of chat completions."""

    def __init__(
        self, passthrough: Passthrough, stored: Stored, shaped: Shaped, joined: Joined
    ) -> None:
        self._passthrough = passthrough
        self._joined = joined
        self._shaped = shaped
        self._stored = stored

    async def create(self, exchange: Exchange) -> None:
        """Pass a chat completion through; what was sent is what the upstream gets."""
        body = await exchange.body.read()
        await self._complete(exchange, body, read_json(body))

    async def create_of_old(self, exchange: Exchange) -> None:
        """Answer a client that names the model in the path."""
        asked = dict(read_json(await exchange.body.read()).values)
        asked["model"] = asked.get("model") or exchange.request.names["id"]
        await self._complete(exchange, encode(asked), Fields(asked))

    async def create_deployed(self, exchange: Exchange) -> None:
        """Answer a client of Azure: the deployment in its path is the model, whatever it says."""
        asked = dict(read_json(await exchange.body.read()).values)
        asked["model"] = exchange.request.names["id"]
        await self._complete(exchange, encode(asked), Fields(asked))

    async def _complete(self, exchange: Exchange, body: bytes, asked: Fields) -> None:
        asked, body = modern(asked, body)
        if HEADER in exchange.request.headers:
            await self._joined.create(exchange, asked, validation.chat(asked))
            return
        if concerns(asked):
            shaped = await self._shaped.chat(exchange, asked)
            if shaped is None:
                return
            asked, body = shaped, encode(shaped.values)
        model = validation.chat(asked)
        if asked.flag("store"):
            await self._stored.create(exchange, asked, model)
            return
        call = exchange.request.call(
            "/chat/completions", body, model=model, stream=asked.flag("stream")
        )
        async with self._passthrough.call(call) as reply:
            await exchange.relay(reply, spoken=True)

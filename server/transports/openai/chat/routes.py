"""Chat completions: the straight path from a client to an upstream and back."""

from __future__ import annotations

from server.openai_protocol.codec import encode
from server.openai_protocol.fields import Fields
from server.transports.openai import validation
from server.transports.openai.chat.conversation import HEADER, Joined
from server.transports.openai.chat.stored import Stored
from server.transports.openai.chat.templates import Shaped, concerns
from server.transports.openai.exchange import Visit, read_json
from server.upstream.pool import Upstreams


class Chat:
    """The routes of chat completions."""

    def __init__(
        self, upstreams: Upstreams, stored: Stored, shaped: Shaped, joined: Joined
    ) -> None:
        self._upstreams = upstreams
        self._joined = joined
        self._shaped = shaped
        self._stored = stored

    async def create(self, visit: Visit) -> None:
        """Pass a chat completion through; what was sent is what the upstream gets."""
        body = await visit.read()
        await self._complete(visit, body, read_json(body))

    async def create_of_old(self, visit: Visit) -> None:
        """Answer a client that names the model in the path."""
        asked = dict(read_json(await visit.read()).values)
        asked["model"] = asked.get("model") or visit.names["id"]
        await self._complete(visit, encode(asked), Fields(asked))

    async def _complete(self, visit: Visit, body: bytes, asked: Fields) -> None:
        if HEADER in visit.headers:
            await self._joined.create(visit, asked, validation.chat(asked))
            return
        if concerns(asked):
            shaped = await self._shaped.chat(visit, asked)
            if shaped is None:
                return
            asked, body = shaped, encode(shaped.values)
        model = validation.chat(asked)
        if asked.flag("store"):
            await self._stored.create(visit, asked, model)
            return
        call = visit.call("/chat/completions", body, model=model, stream=asked.flag("stream"))
        async with self._upstreams.call(call) as reply:
            await visit.relay(reply, spoken=True)

"""Text completions: the upstream's own, or made from chat where it has none for a model."""

from __future__ import annotations

from typing import Any

import orjson

from server.core.passthrough import Passthrough
from server.openai_protocol.codec import encode
from server.openai_protocol.fields import Fields
from server.transports.openai import validation
from server.transports.openai.body import read_json
from server.transports.openai.chat.templates import Shaped, concerns
from server.transports.openai.completions.from_chat import FromChat
from server.transports.openai.errors import PassedOnError
from server.transports.openai.exchange import Exchange
from server.transports.openai.spellings import modern
from server.upstream.bodies import start_of

_REFUSAL_BYTES = 64 << 10
#: so many models are remembered to take messages only
_REMEMBERED = 1_000


class CompletionRoutes:
    """The routes of text completions, today's and the legacy ones."""

    def __init__(self, passthrough: Passthrough, default_model: str, shaped: Shaped) -> None:
        self._shaped = shaped
        self._passthrough = passthrough
        self._from_chat = FromChat(passthrough)
        self._default_model = default_model
        self._chat_only: set[str] = set()

    async def create(self, exchange: Exchange) -> None:
        """Complete a text."""
        body = await exchange.body.read()
        await self._complete(exchange, body, read_json(body))

    async def create_of_old(self, exchange: Exchange) -> None:
        """Complete a text for a client that names the model in the path, or not at all."""
        asked = dict(read_json(await exchange.body.read()).values)
        asked["model"] = (
            exchange.request.names.get("id") or asked.get("model") or self._default_model
        )
        await self._complete(exchange, encode(asked), Fields(asked))

    async def generate(self, exchange: Exchange) -> None:
        """Complete a text as engines of old did: `context`, `length`, and the answer in `data`."""
        said = dict(read_json(await exchange.body.read()).values)
        names = {"context": "prompt", "length": "max_tokens"}
        asked = {names.get(name, name): value for name, value in said.items()}
        asked |= {"model": exchange.request.names["id"], "stream": False}
        validation.completion(Fields(asked))
        answer = await self.ask(exchange, asked)
        await exchange.answer({**answer, "data": answer["choices"]})

    async def ask(self, exchange: Exchange, asked: dict[str, Any]) -> dict[str, Any]:
        """Return a whole completion. Raises PassedOnError for the upstream's refusal."""
        if asked["model"] not in self._chat_only:
            call = exchange.request.made("/completions", asked)
            async with self._passthrough.call(call) as reply:
                body = b"".join([piece async for piece in reply.body])
            if reply.status < 400:
                answer: dict[str, Any] = orjson.loads(body)
                return answer
            if not _takes_messages_only(reply.status, body):
                raise PassedOnError(reply.status, reply.headers, body)
        answer, _ = await self._from_chat.ask(exchange, Fields(asked))
        self._remember(asked["model"])
        return answer

    async def _complete(self, exchange: Exchange, body: bytes, asked: Fields) -> None:
        asked, body = modern(asked, body)
        if concerns(asked):
            asked = await self._shaped.completion(asked)
            body = encode(asked.values)
        model = validation.completion(asked)
        if model not in self._chat_only:
            call = exchange.request.call(
                "/completions", body, model=model, stream=asked.flag("stream")
            )
            async with self._passthrough.call(call) as reply:
                if reply.status < 400:
                    await exchange.relay(reply, spoken=True)
                    return
                refused = await start_of(reply.body, _REFUSAL_BYTES)
            if not _takes_messages_only(reply.status, refused):
                raise PassedOnError(reply.status, reply.headers, refused)
        if asked.flag("stream"):
            await self._from_chat.stream(exchange, asked)
        else:
            await exchange.answer(*await self._from_chat.ask(exchange, asked))
        self._remember(model)

    def _remember(self, model: str) -> None:
        if len(self._chat_only) < _REMEMBERED:
            self._chat_only.add(model)


def _takes_messages_only(status: int, body: bytes) -> bool:
    """Say whether a refusal is of the route, not of what was asked for there."""
    error = orjson.loads(body).get("error", {})
    told = str(error.get("message", ""))
    if error.get("code") == "model_not_found":
        return False
    return status in (404, 405, 501) or (status == 400 and "chat" in told and "model" in told)

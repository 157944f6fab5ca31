"""The list of models, in today's shape and in that of the engines of old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from server.core.passthrough import Passthrough
from server.openai_protocol.errors import no_such_model
from server.transports.openai.errors import PassedOnError
from server.transports.openai.exchange import Exchange
from server.transports.openai.upstream_json import ask
from server.upstream.port import Call


class Models:
    """The routes of models and of engines."""

    def __init__(self, passthrough: Passthrough) -> None:
        self._passthrough = passthrough

    async def list(self, exchange: Exchange) -> None:
        """List what the upstreams have, aliases included."""
        await exchange.answer({"object": "list", "data": await self._passthrough.models()})

    async def read(self, exchange: Exchange) -> None:
        """Show a model; one that no list has may still be known to its upstream."""
        name = exchange.request.names["id"]
        if (found := await self._find(name)) is not None:
            await exchange.answer(found)
            return
        async with self._passthrough.call(self._call(exchange, name)) as reply:
            if reply.status == 404:  # of a server without this route, too
                raise no_such_model(name)
            await exchange.relay(reply)

    async def list_engines(self, exchange: Exchange) -> None:
        """List the models as engines."""
        engines = [_engine(model) for model in await self._passthrough.models()]
        await exchange.answer({"object": "list", "data": engines})

    async def read_engine(self, exchange: Exchange) -> None:
        """Show a model as an engine; one that no list has may still be known to its upstream."""
        name = exchange.request.names["id"]
        found = await self._find(name)
        if found is None:
            call = replace(self._call(exchange, name), method="GET")
            owner = self._passthrough.first(name).name
            try:
                found = {"owned_by": owner, **await ask(self._passthrough, call)}
            except PassedOnError as refused:
                raise (no_such_model(name) if refused.status == 404 else refused) from None
        await exchange.answer(_engine({**found, "id": name}))

    def _call(self, exchange: Exchange, name: str) -> Call:
        """Return the question to an upstream. Raises RefusedError where it would be another one."""
        if {".", ".."} & {*name.replace("\\", "/").split("/")}:
            raise no_such_model(name)
        return exchange.request.call(f"/models/{quote(name, safe='')}", model=name)

    async def _find(self, name: str) -> Mapping[str, Any] | None:
        return next((one for one in await self._passthrough.models() if one["id"] == name), None)


def _engine(model: Mapping[str, Any]) -> dict[str, Any]:
    owner = model.get("owned_by", "")
    return {"id": model["id"], "object": "engine", "owner": owner, "ready": True}

"""Embeddings, moderations, and every route that is the upstream's alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from server.config.upstream_names import ELIZA
from server.core.passthrough import Passthrough
from server.openai_protocol.codec import MalformedError, encode, parse
from server.openai_protocol.errors import ApiError, is_of_the_route
from server.transports.openai import validation
from server.transports.openai.body import read_json
from server.transports.openai.errors import PassedOnError, no_route_of_eliza, unknown_url
from server.transports.openai.exchange import Exchange
from server.transports.openai.stored_objects.admission import Admission
from server.transports.openai.stored_objects.lists import OwnLists
from server.transports.openai.stored_objects.ownership import Ownership
from server.transports.openai.stored_objects.resources import Does, ResourceRule, rule_of
from server.upstream.bodies import start_of
from server.upstream.port import Call
from storage.port import UnavailableError

_REFUSAL_BYTES = 64 << 10


class PassthroughRoutes:
    """Routes whose bodies and answers are the upstream's alone."""

    def __init__(self, passthrough: Passthrough, ownership: Ownership, whole_bytes: int) -> None:
        """`whole_bytes`: a JSON body up to this size is read, to see which model it names."""
        self._passthrough = passthrough
        self._whole_bytes = whole_bytes
        self._ownership = ownership
        self._admission = Admission(passthrough, ownership, whole_bytes)
        self._lists = OwnLists(passthrough, ownership)

    async def embed(self, exchange: Exchange) -> None:
        """Pass on a request for embeddings; legacy paths name the model themselves."""
        body = await exchange.body.read()
        asked = read_json(body)
        if "id" in exchange.request.names:
            body = encode({**asked.values, "model": exchange.request.names["id"]})
            asked = read_json(body)
        await self._pass(exchange, "/embeddings", body, validation.embedding(asked))

    async def moderate(self, exchange: Exchange) -> None:
        """Pass on a request for a moderation."""
        body = await exchange.body.read()
        await self._pass(exchange, "/moderations", body, validation.moderation(read_json(body)))

    async def anything(self, exchange: Exchange) -> None:
        """Hand a call to an upstream as it is, where its caller is alone there; a built-in one has
        no other routes. Where others are there too, it gets to its own things only.
        """
        if await self._ownership.shared(exchange.request):
            asked = await self._admission.admit(exchange)
            if asked.rule.does is Does.LISTS:
                await self._lists.page(exchange, asked.rule, asked.call)
            else:
                await self._relay(exchange, asked.call, asked.rule, asked.path_ids)
            return
        body: bytes | AsyncIterator[bytes] = (
            exchange.body.pieces() if exchange.request.has_body else b""
        )
        model = None
        if self._may_name_a_model(exchange):
            body = await exchange.body.read()
            model = _model_in(body)
        if self._passthrough.first(model).local:
            raise no_route_of_eliza(exchange.request.method, f"/v1{exchange.request.path}")
        call = exchange.request.call(exchange.request.raw_path, body, model=model)
        rule, path_ids = rule_of(exchange.request.method, exchange.request.path) or (None, {})
        if path_ids and (home := await self._home_of(exchange, path_ids)) is not None:
            call = replace(call, upstream=home)
        await self._relay(exchange, call, rule, path_ids, adopt=True)

    async def _home_of(self, exchange: Exchange, ids: Iterable[str]) -> str | None:
        """Return the one upstream that is known to have all of these."""
        try:
            mine = await self._ownership.mine(exchange, ids)
        except UnavailableError:
            return None
        homes = {one.upstream for one in mine.values()}
        if len(homes) == 1 and self._passthrough.has(home := homes.pop()):
            return home
        return None

    async def _relay(
        self,
        exchange: Exchange,
        call: Call,
        rule: ResourceRule | None,
        path_ids: Mapping[str, str],
        *,
        adopt: bool = False,
    ) -> None:
        async with self._passthrough.call(call) as reply:
            no_route = reply.status == 404 and all(map(is_of_the_route, reply.complaints))
            if no_route and not path_ids:  # else it may be the thing that is not there
                path = f"/v1{exchange.request.path}"
                raise unknown_url(exchange.request.method, path, "The upstream")
            if rule is not None:
                reply = await self._ownership.heard(exchange, rule, path_ids, reply, adopt=adopt)
            await exchange.relay(reply)

    async def _pass(self, exchange: Exchange, path: str, body: bytes, model: str | None) -> None:
        """Pass a call on; what its upstream has no route for is answered here, if it can be."""
        call = exchange.request.call(path, body, model=model, stream=False)
        async with self._passthrough.call(call) as reply:
            if reply.status not in (404, 405, 501) or not self._passthrough.serves(ELIZA):
                await exchange.relay(reply)
                return
            refused = await start_of(reply.body, _REFUSAL_BYTES)
        passed_on = PassedOnError(reply.status, reply.headers, refused)
        if _code_of(refused) == "model_not_found":
            raise passed_on
        # She embeds and judges, whatever model is named.
        async with self._passthrough.call(replace(call, model=ELIZA)) as reply:
            if reply.status >= 400:
                raise passed_on
            await exchange.relay(reply)

    def _may_name_a_model(self, exchange: Exchange) -> bool:
        kind = exchange.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        length = exchange.request.headers.get("content-length", "")
        return kind == "application/json" and length.isdigit() and int(length) <= self._whole_bytes


def _code_of(refused: bytes) -> object:
    try:
        error = parse(refused)[0].get("error")
    except MalformedError:
        return None
    return error.get("code") if isinstance(error, dict) else None


def _model_in(body: bytes) -> str | None:
    """Return the model that a body names; whether the body is right is the upstream's to say."""
    try:
        model = read_json(body).raw("model")
    except ApiError:
        return None
    return model if isinstance(model, str) and model else None

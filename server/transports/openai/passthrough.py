"""Embeddings, moderations, and every route that is the upstream's alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from server.openai_protocol.codec import encode
from server.openai_protocol.errors import RefusedError
from server.transports.openai import validation
from server.transports.openai.errors import unknown_url
from server.transports.openai.exchange import Visit, read_json
from server.transports.openai.stored_objects.admission import Admission
from server.transports.openai.stored_objects.lists import OwnLists
from server.transports.openai.stored_objects.ownership import Ownership
from server.transports.openai.stored_objects.resources import Does, Rule, rule_of
from server.upstream.pool import Upstreams
from server.upstream.port import Call
from storage.port import UnavailableError


class Plain:
    """Routes whose bodies and answers are the upstream's alone."""

    def __init__(self, upstreams: Upstreams, ownership: Ownership, whole_bytes: int) -> None:
        """`whole_bytes`: a JSON body up to this size is read, to see which model it names."""
        self._upstreams = upstreams
        self._whole_bytes = whole_bytes
        self._ownership = ownership
        self._admission = Admission(upstreams, ownership, whole_bytes)
        self._lists = OwnLists(upstreams, ownership)

    async def embed(self, visit: Visit) -> None:
        """Pass on a request for embeddings; legacy paths name the model themselves."""
        body = await visit.read()
        asked = read_json(body)
        if "id" in visit.names:
            body = encode({**asked.values, "model": visit.names["id"]})
            asked = read_json(body)
        await self._pass(visit, "/embeddings", body, validation.embedding(asked))

    async def moderate(self, visit: Visit) -> None:
        """Pass on a request for a moderation."""
        body = await visit.read()
        await self._pass(visit, "/moderations", body, validation.moderation(read_json(body)))

    async def anything(self, visit: Visit) -> None:
        """Hand a call to an upstream as it is, where its caller is alone there; a built-in one has
        no other routes. Where others are there too, it gets to its own things only.
        """
        if await self._ownership.shared(visit):
            asked = await self._admission.admit(visit)
            if asked.rule.does is Does.LISTS:
                await self._lists.page(visit, asked.rule, asked.call)
            else:
                await self._relay(visit, asked.call, asked.rule, asked.path_ids)
            return
        body: bytes | AsyncIterator[bytes] = visit.pieces() if visit.has_body else b""
        model = None
        if self._may_name_a_model(visit):
            body = await visit.read()
            model = _model_in(body)
        if self._upstreams.first(model).local:
            raise unknown_url(visit.method, f"/v1{visit.path}")
        call = visit.call(visit.raw_path, body, model=model)
        rule, path_ids = rule_of(visit.method, visit.path) or (None, {})
        if path_ids and (home := await self._home_of(visit, path_ids)) is not None:
            call = replace(call, upstream=home)
        await self._relay(visit, call, rule, path_ids, adopt=True)

    async def _home_of(self, visit: Visit, ids: Iterable[str]) -> str | None:
        """Return the one upstream that is known to have all of these."""
        try:
            mine = await self._ownership.mine(visit, ids)
        except UnavailableError:
            return None
        homes = {one.upstream for one in mine.values()}
        return next((home for home in homes if len(homes) == 1 and self._upstreams.has(home)), None)

    async def _relay(
        self,
        visit: Visit,
        call: Call,
        rule: Rule | None,
        path_ids: Mapping[str, str],
        *,
        adopt: bool = False,
    ) -> None:
        async with self._upstreams.call(call) as reply:
            if rule is not None:
                reply = await self._ownership.heard(visit, rule, path_ids, reply, adopt=adopt)
            await visit.relay(reply)

    async def _pass(self, visit: Visit, path: str, body: bytes, model: str | None) -> None:
        async with self._upstreams.call(visit.call(path, body, model=model, stream=False)) as reply:
            await visit.relay(reply)

    def _may_name_a_model(self, visit: Visit) -> bool:
        kind = visit.headers.get("content-type", "").partition(";")[0].strip().lower()
        length = visit.headers.get("content-length", "")
        return kind == "application/json" and length.isdigit() and int(length) <= self._whole_bytes


def _model_in(body: bytes) -> str | None:
    """Return the model that a body names; whether the body is right is the upstream's to say."""
    try:
        model = read_json(body).raw("model")
    except RefusedError:
        return None
    return model if isinstance(model, str) and model else None

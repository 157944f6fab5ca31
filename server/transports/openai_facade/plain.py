"""Embeddings, moderations, and every route that is the upstream's alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

from server.transports.openai_facade import checks
from server.transports.openai_facade.errors import unknown_url
from server.transports.openai_facade.visit import Visit, read_json
from server.upstream.mend import encode
from server.upstream.refusals import RefusedError
from server.upstream.upstreams import Upstreams


class Plain:
    """Routes whose bodies and answers go by unchanged."""

    def __init__(self, upstreams: Upstreams, whole_bytes: int) -> None:
        """`whole_bytes`: a JSON body up to this size is read, to see which model it names."""
        self._upstreams = upstreams
        self._whole_bytes = whole_bytes

    async def embed(self, visit: Visit) -> None:
        """Pass on a request for embeddings; legacy paths name the model themselves."""
        body = await visit.read()
        asked = read_json(body)
        if "id" in visit.names:
            body = encode({**asked.values, "model": visit.names["id"]})
            asked = read_json(body)
        await self._pass(visit, "/embeddings", body, checks.embedding(asked))

    async def moderate(self, visit: Visit) -> None:
        """Pass on a request for a moderation."""
        body = await visit.read()
        await self._pass(visit, "/moderations", body, checks.moderation(read_json(body)))

    async def anything(self, visit: Visit) -> None:
        """Hand a call to an upstream as it is; a built-in one has no other routes."""
        body: bytes | AsyncIterator[bytes] = visit.pieces() if visit.has_body else b""
        model = None
        if self._may_name_a_model(visit):
            body = await visit.read()
            model = _model_in(body)
        if self._upstreams.first(model).local:
            raise unknown_url(visit.method, f"/v1{visit.path}")
        call = visit.call(visit.raw_path, body, model=model)
        async with self._upstreams.call(call) as reply:
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

"""Which of a key's requests an upstream gets where other keys have things there too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from server.core.errors import RequestTooLargeError
from server.core.passthrough import Passthrough
from server.openai_protocol.codec import encode
from server.openai_protocol.errors import ApiError
from server.transports.openai.body import read_json
from server.transports.openai.errors import no_route_of_eliza, unknown_url
from server.transports.openai.exchange import Exchange
from server.transports.openai.request import ClientRequest
from server.transports.openai.stored_objects.batch_files import BatchFiles
from server.transports.openai.stored_objects.multipart import Check, Form, boundary_of, content_type
from server.transports.openai.stored_objects.ownership import Ownership, no_such
from server.transports.openai.stored_objects.references import (
    fields_of,
    ids_in,
    looks_like_id,
    named_in,
    read_once,
    references,
)
from server.transports.openai.stored_objects.resources import STATELESS, Does, ResourceRule, rule_of
from server.upstream.bodies import JSON
from server.upstream.port import Call
from storage.model import UpstreamObject

#: Of an id, or a word of a path: what is else could be read as another path.
_SEGMENT = re.compile(r"[A-Za-z0-9._:~@=\-]{1,512}")
#: What of a query says where in a list to begin: one's own, within something of one's own; where a
#: list begins that is everybody's is looked at there.
_PLACES = ("after", "before", "run_id", "starting_after", "limit", "order")
_FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on: as which call, by which rule, with whose ids in its path."""

    call: Call
    rule: ResourceRule
    path_ids: Mapping[str, str]


class Admission:
    """Lets a request through that names nothing but its caller's own things."""

    def __init__(self, passthrough: Passthrough, ownership: Ownership, whole_bytes: int) -> None:
        """`whole_bytes`: how long a JSON body may be, which is read whole."""
        self._passthrough = passthrough
        self._ownership = ownership
        self._whole_bytes = whole_bytes
        self._batches = BatchFiles(passthrough, ownership)

    async def admit(self, exchange: Exchange) -> Admitted:
        """Return the call that a request is. Raises RefusedError.

        Path, query and JSON body are written anew, as they were understood: what an upstream could
        understand otherwise does not get there.
        """
        path = _canonical(exchange)
        found = rule_of(exchange.request.method, path)
        strict = found is not None and found[0] not in STATELESS
        homes: list[str] = []  # of the call, as soon as that is known
        body, values, kind = await self._body(exchange, homes, strict=strict)
        model = values.get("model")
        if self._passthrough.first(model if isinstance(model, str) and model else None).local:
            raise no_route_of_eliza(exchange.request.method, f"/v1{exchange.request.path}")
        if found is None:
            raise _inseparable(exchange.request)
        rule, path_ids = found
        looked = await named_in(values, len(body) if isinstance(body, bytes) else 0, strict=strict)
        named = {**looked, **dict.fromkeys(path_ids, "id")}
        call = exchange.request.call(
            path, body, model=model if isinstance(model, str) and model else None
        )
        query = parse_qsl(call.query, keep_blank_values=True)
        named |= _in_query(query, within=bool(path_ids) or rule.does is Does.LISTS)
        mine = await self._ownership.own(exchange.request, named)
        headers = (
            {**call.headers, "content-type": kind} if exchange.request.has_body else call.headers
        )
        upstream = self._home_of(mine.values())
        homes.append(upstream or self._passthrough.first(call.model).name)
        call = replace(call, query=urlencode(query), headers=headers, upstream=upstream)
        if rule.made == "batches" and rule.does is Does.MAKES:
            await self._batches.check(exchange, values, upstream)
        return Admitted(call, rule, path_ids)

    async def _body(
        self, exchange: Exchange, homes: list[str], *, strict: bool
    ) -> tuple[bytes | AsyncIterator[bytes], Mapping[str, Any], str]:
        """Return a body as it is sent on, what it says where that is JSON, and its kind."""
        if not exchange.request.has_body:
            return b"", {}, JSON
        given = exchange.request.headers.get("content-type", "")
        kind = given.partition(";")[0].strip().lower()
        if kind == _FORM:
            boundary, check = boundary_of(given), self._checker(exchange, homes, strict=strict)
            return aiter(Form(exchange.body.pieces(), boundary, check)), {}, content_type(boundary)
        if kind not in ("", JSON) and not kind.endswith("+json"):
            raise ApiError(f"Bodies must be {JSON} or {_FORM}.", status=415)
        data = bytearray()
        async for piece in exchange.body.pieces():
            data += piece
            if len(data) > self._whole_bytes:
                raise RequestTooLargeError(
                    f"A body of JSON may have {self._whole_bytes} bytes, "
                    "which TRIALOGUE_MAX_BODY_BYTES allows."
                )
        values = read_json(bytes(data)).values if data else {}
        return (encode(values) if data else b""), values, JSON

    def _checker(self, exchange: Exchange, homes: list[str], *, strict: bool) -> Check:
        """Return what looks at each field of a form, which goes to the upstream in `homes`."""

        async def check(name: str, value: bytes) -> None:
            text = value.decode("utf-8", "replace").strip()
            if not name:
                named = {text: ""} if looks_like_id(text) else {}
            else:
                named = {}
                for field in fields_of([(name, text), *((name, one) for one in _json_in(text))]):
                    named |= references(field, strict=strict)
            mine = await self._ownership.own(exchange.request, named)
            for id_, known in mine.items():
                if known.upstream not in homes:
                    raise no_such(id_, named[id_])

        return check

    def _home_of(self, things: Any) -> str | None:
        """Return the one upstream that has all of these. Raises RefusedError."""
        homes: dict[str, UpstreamObject] = {one.upstream: one for one in things}
        for home, one in homes.items():
            if len(homes) > 1 or not self._passthrough.has(home):
                raise no_such(one.id, "")
        return next(iter(homes), None)


def _canonical(exchange: Exchange) -> str:
    """Return a path in the one way to write it. Raises RefusedError for one that has others."""
    segments = [unquote(one) for one in exchange.request.raw_path.strip("/").split("/")]
    if not all(_SEGMENT.fullmatch(one) and one.strip(".") for one in segments):
        raise unknown_url(exchange.request.method, f"/v1{exchange.request.path}")
    return "/" + "/".join(segments)


def _json_in(text: str) -> list[Any]:
    """Return what a field says in JSON, and what looks like ids where that cannot be read."""
    if not text.startswith(("{", "[")):
        return []
    try:
        return [read_once(text)]
    except (ValueError, RecursionError):
        return list(ids_in(text))


def _in_query(query: list[tuple[str, str]], *, within: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in query:
        if within and name in _PLACES:
            continue
        for field in fields_of([(name, value)]):
            found |= references(field, strict=True)
        found |= dict.fromkeys(ids_in(unquote(unquote(value))), name)
    return found


def _inseparable(asked: ClientRequest) -> ApiError:
    return ApiError(
        f"{asked.method} /v1{asked.path} is refused: this server has several keys, and what "
        "this does or shows at the upstream, where all share one, cannot be told apart by them.",
        code="shared_upstream",
        status=403,
    )

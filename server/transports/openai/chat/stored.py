"""Chat completions with `store: true`: kept here, and the routes that show them again."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from server.config.limits import ReplyLimits
from server.core.completions import StoredCompletions, labels
from server.core.passthrough import Passthrough
from server.openai_protocol.assemble import Assembler
from server.openai_protocol.codec import encode, parse
from server.openai_protocol.errors import ApiError, missing
from server.openai_protocol.fields import Fields
from server.openai_protocol.sse import one_by_one
from server.transports.openai.body import read_json
from server.transports.openai.exchange import Exchange
from server.transports.openai.paging import Paging, listed, page_of, paging_of
from server.transports.openai.upstream_json import beside, refuse_bad
from server.upstream.bodies import whole
from storage.model import Completion, CompletionQuery
from storage.port import NotFoundError

_ANSWER_BYTES = ReplyLimits().answer_bytes
#: what concerns the keeping, which is ours and no upstream's
OURS = ("store", "metadata")


class Stored:
    """Asks for completions that are kept, and shows them."""

    def __init__(self, passthrough: Passthrough, completions: StoredCompletions) -> None:
        self._passthrough = passthrough
        self._completions = completions

    async def create(self, exchange: Exchange, asked: Fields, model: str) -> None:
        """Answer as any other chat completion; its end is told when it is kept."""
        metadata_of(asked)
        stream = asked.flag("stream")
        body = {name: value for name, value in asked.values.items() if name not in OURS}
        if stream:
            options = asked.raw("stream_options") or {}
            body["stream_options"] = {**options, "include_usage": True}
        call = exchange.request.call("/chat/completions", encode(body), model=model, stream=stream)
        async with self._passthrough.call(call) as reply:
            await refuse_bad(reply)
            headers = beside(reply)
            if stream:
                shown = self.shown(exchange, asked, reply.body)
                await exchange.relay(replace(reply, body=shown), spoken=True)
                return
            answer = parse(await whole(reply.body, _ANSWER_BYTES))[0]
        await exchange.answer(await self.keep(exchange, asked, answer), headers)

    async def keep(
        self, exchange: Exchange, asked: Fields, answer: dict[str, Any]
    ) -> dict[str, Any]:
        """Keep an answer under an id of its own, and return it as it was kept."""
        return await self._keep(exchange, asked, {**answer, "id": _new_id()})

    async def shown(
        self, exchange: Exchange, asked: Fields, events: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Yield a stream that tells its usage as it was asked for: with that, or without it.

        Where it is to be kept, its end is told when it is.
        """
        assembled, id_ = Assembler(), _new_id() if asked.flag("store") else None
        options = asked.part("stream_options")
        usage_is_wanted = options is not None and options.flag("include_usage")
        async for event in one_by_one(events):
            chunk = assembled.take(event)
            if assembled.done and id_ is not None:
                await self._keep(exchange, asked, {**assembled.completion(), "id": id_})
            if assembled.done or "error" in chunk:
                yield event
            elif usage_is_wanted or chunk["choices"]:
                named = {} if id_ is None else {"id": id_}
                untold = "usage" in chunk and not usage_is_wanted
                if untold:
                    del chunk["usage"]
                yield b"data: %b\n\n" % encode(chunk | named) if named or untold else event

    async def list(self, exchange: Exchange) -> None:
        """Show a page of what was kept."""
        asked = paging_of(exchange.request.query, "asc")
        try:
            page = await self._completions.page(
                exchange.request.owner, _wanted(asked), limit=asked.limit, after=asked.after
            )
        except NotFoundError as error:
            raise _no_such(error) from None
        await exchange.answer(listed([_shown(one) for one in page.items], more=page.has_more))

    async def read(self, exchange: Exchange) -> None:
        await exchange.answer(_shown(await self._found(exchange)))

    async def change(self, exchange: Exchange) -> None:
        """Put metadata in the place of what there was; nothing else of a completion changes."""
        asked = read_json(await exchange.body.read())
        if (metadata := asked.part("metadata")) is None:
            raise missing("metadata")
        id_ = exchange.request.names["id"]
        changed = await self._completions.label(
            exchange.request.owner, id_, labels(metadata.values)
        )
        await exchange.answer(_shown(changed))

    async def delete(self, exchange: Exchange) -> None:
        id_ = exchange.request.names["id"]
        await self._completions.delete(exchange.request.owner, id_)
        await exchange.answer({"object": "chat.completion.deleted", "id": id_, "deleted": True})

    async def messages(self, exchange: Exchange) -> None:
        """Show a page of the messages that a completion answered."""
        found = await self._found(exchange)
        said = [_message(found.id, n, one) for n, one in enumerate(found.messages)]
        await exchange.answer(page_of(said, paging_of(exchange.request.query, "asc")))

    async def _found(self, exchange: Exchange) -> Completion:
        return await self._completions.get(exchange.request.owner, exchange.request.names["id"])

    async def _keep(
        self, exchange: Exchange, asked: Fields, answer: dict[str, Any]
    ) -> dict[str, Any]:
        completion = Completion(
            id=answer["id"],
            model=answer["model"],
            created_at=time.time_ns() // 1000,
            answer=answer,
            messages=asked.raw("messages"),
            metadata=metadata_of(asked),
        )
        await self._completions.keep(exchange.request.owner, completion)
        return _shown(completion)


def metadata_of(asked: Fields) -> Mapping[str, str]:
    """Return the metadata of a request. Raises RefusedError, or InvalidRequestError."""
    given = asked.part("metadata")
    return labels(given.values if given else {})


def _new_id() -> str:
    """Return an id of our own: an upstream's need not be unique for ever."""
    return f"chatcmpl-{secrets.token_hex(12)}"


def _shown(completion: Completion) -> dict[str, Any]:
    return {**completion.answer, "metadata": dict(completion.metadata)}


def _message(completion_id: str, number: int, said: Mapping[str, Any]) -> dict[str, Any]:
    content = said.get("content")
    parts = content if isinstance(content, list) else None
    shape = {"refusal": None, "name": None, **said, "content": None if parts else content}
    return {"id": f"{completion_id}-{number}", **shape, "content_parts": parts}


def _no_such(told: object) -> ApiError:
    """Return the refusal of a page behind what is not there."""
    return ApiError(str(told), "after", status=404)


def _wanted(asked: Paging) -> CompletionQuery:
    metadata = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in asked.others.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    model = asked.others.get("model") or None
    return CompletionQuery(model, metadata, oldest_first=asked.oldest_first)

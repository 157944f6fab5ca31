"""Short words for tests that speak OpenAI's API with the built-in upstream."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import httpx2
import openai
import orjson
import pytest
from pydantic import BaseModel

from server.tokens.encoding import encoding
from server.upstream.local.embeddings.embedder import Embedder
from server.upstream.local.service import ElizaApi
from server.upstream.port import Call, OpenAISpeaker

M = TypeVar("M", bound=BaseModel)

#: The development environment has the extra; where checks count, its absence is a failure.
needs_extra = pytest.mark.skipif(
    not Embedder().installed and os.environ.get("CI") != "true",
    reason="the optional extra 'embeddings' is not installed",
)


async def post(
    speaker: OpenAISpeaker, path: str, body: object, **call: Any
) -> tuple[int, Mapping[str, str], list[bytes]]:
    """Return the status, the headers and the pieces of the body of a reply."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with speaker.call(Call("POST", path, body=data, **call)) as reply:
        return reply.status, reply.headers, [piece async for piece in reply.body]


async def answered(speaker: OpenAISpeaker, path: str, body: object) -> Any:
    """Return the JSON of a reply that is no error."""
    status, headers, pieces = await post(speaker, path, body)
    assert status == 200, pieces
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(b"".join(pieces))
    return orjson.loads(b"".join(pieces))


async def refused(speaker: OpenAISpeaker, path: str, body: object) -> tuple[int, dict[str, Any]]:
    """Return the status of an error, and the error, whose shape is checked."""
    status, headers, pieces = await post(speaker, path, body)
    assert status >= 400, pieces
    assert headers["content-type"] == "application/json"
    told = orjson.loads(b"".join(pieces))
    assert told.keys() == {"error"}
    error: dict[str, Any] = told["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"].isascii()
    assert error["message"].isprintable()
    assert error["message"]
    return status, error


async def streamed(speaker: OpenAISpeaker, path: str, body: Mapping[str, Any]) -> list[Any]:
    """Return the chunks of a stream: each piece is one whole event, of 100 bytes or more."""
    status, headers, pieces = await post(speaker, path, {**body, "stream": True})
    assert status == 200, pieces
    assert headers["content-type"].startswith("text/event-stream")
    assert pieces.pop() == b"data: [DONE]\n\n"
    for piece in pieces:
        assert len(piece) >= 100
        assert piece.startswith(b"data: {")
        assert piece.endswith(b"}\n\n")
        assert piece.count(b"\n") == 2
    return [orjson.loads(piece[6:]) for piece in pieces]


def strict(kind: type[M], value: object) -> M:
    """Read a value as one of OpenAI's types: nothing converted, nothing unknown."""
    model = kind.model_validate_json(orjson.dumps(value), strict=True)
    assert not list(_unknown(model))
    return model


def _unknown(value: object) -> Any:
    match value:
        case BaseModel():
            yield from value.model_extra or ()
            for name in type(value).model_fields:
                yield from _unknown(getattr(value, name))
        case list():
            for item in value:
                yield from _unknown(item)


class InProcess(httpx2.AsyncBaseTransport):
    """Carries the requests of OpenAI's own client to a speaker, without a socket."""

    def __init__(self, speaker: OpenAISpeaker) -> None:
        self._speaker = speaker

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1")
        call = Call(request.method, path, body=await request.aread())
        context = self._speaker.call(call)
        reply = await context.__aenter__()

        class Body(httpx2.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for piece in reply.body:
                    yield piece

            async def aclose(self) -> None:
                await context.__aexit__(None, None, None)

        return httpx2.Response(reply.status, headers=dict(reply.headers), stream=Body())


def client_of(speaker: OpenAISpeaker) -> openai.AsyncOpenAI:
    """Return OpenAI's client, talking to a speaker."""
    carrier = httpx2.AsyncClient(transport=InProcess(speaker))
    return openai.AsyncOpenAI(
        api_key="none", base_url="http://eliza/v1", http_client=carrier, max_retries=0
    )


def eliza(embedder: Embedder | None = None, delay: float = 0.0) -> ElizaApi:
    return ElizaApi(delay=delay, embeddings=embedder)


#: how Eliza counts
WORDS = encoding("cl100k_base")

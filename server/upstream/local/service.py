"""The built-in upstream as a speaker of OpenAI's API: Eliza and her friends, in this process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson

from server.openai_protocol.errors import ApiError, complaint_in
from server.openai_protocol.fields import Fields, read
from server.tokens.request import encoding_name
from server.upstream.local import chat as chats
from server.upstream.local import completions
from server.upstream.local.eliza.script import doctor
from server.upstream.local.embeddings.embedder import Embedder
from server.upstream.local.embeddings_api import Embeddings
from server.upstream.local.requests import read_chat
from server.upstream.port import Call, Reply

T = TypeVar("T")

#: Names that clients' menus know; every other name is answered as well.
MENU = (
    "eliza",
    "gpt-5.4-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4",
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
    "all-MiniLM-L6-v2",
)

_OWNER = "trialogue"
#: 2025-01-01: models need a time at which they were made, and these never change.
_CREATED = 1_735_689_600
#: Bodies of more bytes are worked on in a thread.
_LARGE = 20_000
#: With no delay between words, other work gets its chance after this many.
_BREATH = 16
_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"


class ElizaApi:
    """Answers calls of OpenAI's API; keeps nothing between them."""

    name = "eliza"

    def __init__(self, *, delay: float = 0.0, embeddings: Embedder | None) -> None:
        """`delay` is in seconds a word; the embedder stays its owner's, to be closed there."""
        self._delay = delay
        self._script = doctor()
        self._embeddings = Embeddings(embeddings)
        self._fingerprint = _fingerprint()
        self._loaded: set[str] = set()
        self._routes: Mapping[str, tuple[str, Callable[[Call], Awaitable[Reply]]]] = {
            "/chat/completions": ("POST", self._chat),
            "/completions": ("POST", self._complete),
            "/embeddings": ("POST", self._embed),
            "/moderations": ("POST", self._moderate),
            "/models": ("GET", self._list),
        }

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Answer a call; see OpenAISpeaker."""
        try:
            reply = await self._reply(call)
        except ApiError as refused:
            reply = _json(refused.body(), refused.status, refused.headers)
            reply.complaints.append(complaint_in(refused.body(), str))
        try:
            yield reply
        finally:
            if isinstance(reply.body, AsyncGenerator):
                await reply.body.aclose()

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return names to choose from."""
        return [_model(name) for name in MENU]

    async def close(self) -> None:
        """Close nothing, since nothing was opened."""

    async def _reply(self, call: Call) -> Reply:
        path = call.path.rstrip("/")
        if path.startswith("/models/") and path.count("/") == 2:
            return await self._only("GET", call, self._show)
        if path not in self._routes:
            raise ApiError(
                f"Unknown request URL: {call.method} /v1{call.path}. The built-in Eliza has no "
                "such route.",
                code="unknown_url",
                status=404,
            )
        method, answer = self._routes[path]
        return await self._only(method, call, answer)

    async def _only(
        self, method: str, call: Call, answer: Callable[[Call], Awaitable[Reply]]
    ) -> Reply:
        if call.method.upper() != method:
            raise ApiError(
                f"Not allowed to {call.method} on /v1{call.path}. (HINT: Perhaps you meant to use "
                f"{method}?)",
                code="method_not_supported",
                status=405,
                headers={"allow": method},
            )
        return await answer(call)

    async def _chat(self, call: Call) -> Reply:
        def answered(asked: Fields) -> chats.ChatAnswer:
            chat = read_chat(asked, call.model)
            return chats.answer(chat, self._script, self._fingerprint)

        answer = await self._worked(call, answered)
        if answer.chat.options.stream:
            return _events(self._spoken(chats.rounds(answer)))
        await asyncio.sleep(self._delay * answer.words)
        return _json(chats.whole(answer))

    async def _complete(self, call: Call) -> Reply:
        def written(asked: Fields) -> completions.Written:
            completion = completions.read_completion(asked, call.model)
            return completions.write(completion, self._script, self._fingerprint)

        answer = await self._worked(call, written)
        if answer.asked.options.stream:
            return _events(self._spoken(completions.rounds(answer)))
        await asyncio.sleep(self._delay * answer.words)
        return _json(completions.whole(answer))

    async def _worked(self, call: Call, work: Callable[[Fields], T]) -> T:
        """Do some work on a body; in a thread where there is much, or an encoding to be read."""
        body = await _whole(call)
        asked = await _read(body)
        words = encoding_name(str(asked.raw("model") or call.model))
        if len(body) <= _LARGE and words in self._loaded:
            return work(asked)
        done = await asyncio.to_thread(work, asked)
        self._loaded.add(words)
        return done

    async def _embed(self, call: Call) -> Reply:
        return _json(await self._embeddings.embed(await _read(await _whole(call)), call.model))

    async def _moderate(self, call: Call) -> Reply:
        return _json(await self._embeddings.moderate(await _read(await _whole(call))))

    async def _list(self, _: Call) -> Reply:
        return _json(orjson.dumps({"object": "list", "data": await self.models()}))

    async def _show(self, call: Call) -> Reply:
        """Show a model of any name, since any name is answered."""
        return _json(orjson.dumps(_model(unquote(call.path.rstrip("/").rpartition("/")[2]))))

    async def _spoken(self, rounds: Iterator[list[bytes]]) -> AsyncGenerator[bytes, None]:
        """Yield events, with the delay between two words."""
        for number, events in enumerate(rounds):
            if self._delay > 0 and number > 1:
                await asyncio.sleep(self._delay)
            elif number % _BREATH == 0:
                await asyncio.sleep(0)
            for event in events:
                yield event


async def _read(body: bytes) -> Fields:
    return await asyncio.to_thread(read, body) if len(body) > _LARGE else read(body)


async def _whole(call: Call) -> bytes:
    if isinstance(call.body, bytes):
        return call.body
    return b"".join([piece async for piece in call.body])


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    told = {"content-type": _JSON, "content-length": str(len(body)), **(headers or {})}
    return Reply(status, told, _once(body))


def _events(body: AsyncGenerator[bytes, None]) -> Reply:
    return Reply(200, {"content-type": _EVENTS, "cache-control": "no-cache"}, body)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": _OWNER}


def _fingerprint() -> str:
    """Name the script, so that it shows when the same seed may lead to other answers."""
    script = (files("server.upstream.local.eliza") / "script.txt").read_bytes()
    return f"fp_{hashlib.sha256(script).hexdigest()[:10]}"

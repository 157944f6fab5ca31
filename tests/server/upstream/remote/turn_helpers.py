"""Short words for tests that ask a scripted upstream through the real client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from server.upstream.answering import Answering
from server.upstream.port import Finish, Prompt, PromptProgress
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import UpstreamClient
from server.upstream.remote.connections import KEPT
from server.upstream.retry import Retries
from storage.model import PromptMessage, Role
from storage.parts import Kind, Part
from tests.support.upstream_script import KEY, Behaviour
from tests.support.upstream_server import ScriptedUpstream

PROMPT = Prompt(model="gpt-4o-mini", messages=(PromptMessage(Role.USER, "hi"),))
BASE = Prompt(model="davinci-002", messages=PROMPT.messages)


def asking(
    base_url: str | None,
    *,
    api_key: str | None = KEY,
    retries: int = 2,
    backoff: float = 0.0,
    kept: int = KEPT,
    **bounds: Any,
) -> Answering:
    """Return what asks a server; it waits no time to retry."""
    known = Bounds(**bounds)
    client = UpstreamClient(api_key=api_key, base_url=base_url, bounds=known, kept=kept)
    return Answering(
        client,
        total=known.total,
        retries=Retries(retries, backoff),
    )


@contextlib.asynccontextmanager
async def scripted(
    *behaviours: Behaviour, **settings: Any
) -> AsyncIterator[tuple[ScriptedUpstream, Answering]]:
    """Open a server that does this in turn, and a client that asks it without waiting to retry."""
    async with ScriptedUpstream() as server:
        server.script(*behaviours)
        client = asking(server.base_url, **settings)
        try:
            yield server, client
        finally:
            await client.close()


async def told(client: Answering, prompt: Prompt = PROMPT) -> tuple[str, Finish]:
    """Return an answer's text and its end; every piece on the way is checked to be fit to keep."""
    pieces = [item async for item in client.complete(prompt)]
    finish = pieces.pop()
    assert isinstance(finish, Finish)
    text, is_text = "", True
    for item in pieces:
        assert item
        match item:
            case str():
                assert "\0" not in item
                item.encode()
                text += item if is_text else ""
            case Part():
                is_text = item.kind is Kind.TEXT
            case PromptProgress():
                assert not text
            case _:
                raise AssertionError(item)
    return text, finish


async def answer_to(*behaviours: Behaviour, prompt: Prompt = PROMPT, **settings: Any) -> str:
    """Return the whole answer of an upstream that does this."""
    async with scripted(*behaviours, **settings) as (_, client):
        return (await told(client, prompt))[0]


async def until_broken(
    client: Answering, prompt: Prompt = PROMPT
) -> tuple[list[str], Exception | None]:
    """Return the pieces that came, and what ended them too soon."""
    pieces: list[str] = []
    try:
        async for item in client.complete(prompt):
            assert isinstance(item, str), "the answer came whole"
            pieces.append(item)
    except Exception as error:  # noqa: BLE001
        return pieces, error
    return pieces, None

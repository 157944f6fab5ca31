"""Short words for tests that ask a scripted upstream through the real client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from server.upstream.port import Finish, Prompt
from server.upstream.remote.turn_client import OpenAIUpstream
from storage.model import PromptMessage, Role
from tests.support.upstream_script import Behaviour
from tests.support.upstream_server import ScriptedUpstream

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
PROMPT = Prompt(model="gpt-4o-mini", messages=(PromptMessage(Role.USER, "hi"),))
BASE = Prompt(model="davinci-002", messages=PROMPT.messages)


@contextlib.asynccontextmanager
async def scripted(
    *behaviours: Behaviour, **settings: Any
) -> AsyncIterator[tuple[ScriptedUpstream, OpenAIUpstream]]:
    """Open a server that does this in turn, and a client that asks it without waiting to retry."""
    async with ScriptedUpstream() as server:
        server.script(*behaviours)
        chosen = {"api_key": KEY, "base_url": server.base_url, "backoff": 0.0, **settings}
        client = OpenAIUpstream(**chosen)
        try:
            yield server, client
        finally:
            await client.close()


async def told(client: OpenAIUpstream, prompt: Prompt = PROMPT) -> tuple[str, Finish]:
    """Return the whole answer; every piece on the way is checked to be fit to keep."""
    text, finish = "", None
    async for item in client.complete(prompt):
        assert finish is None
        if isinstance(item, Finish):
            finish = item
        else:
            assert item
            assert "\0" not in item
            item.encode()
            text += item
    assert finish is not None
    return text, finish


async def answer_to(*behaviours: Behaviour, prompt: Prompt = PROMPT, **settings: Any) -> str:
    """Return the whole answer of an upstream that does this."""
    async with scripted(*behaviours, **settings) as (_, client):
        return (await told(client, prompt))[0]


async def until_broken(
    client: OpenAIUpstream, prompt: Prompt = PROMPT
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

"""Who is still being answered when the server ends is told so, in OpenAI's shape."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.transports.openai.openai_client import (
    CHAT,
    STREAM,
    Pair,
    connected,
    error_of,
    events_of,
)
from tests.support.upstream_script import hang, say, stall


async def test_a_stream_ends_with_an_error(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(stall("Hello, "))
    async with served.client.stream("POST", "/v1/chat/completions", json=STREAM) as response:
        pieces = response.aiter_bytes()
        body = await anext(pieces)
        await served.facade.close()
        body += b"".join([piece async for piece in pieces])
    *begun, last = events_of(body)
    assert begun[0]["choices"]
    assert "shutting down" in last["error"]["message"]


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "streamed"])
async def test_what_has_not_begun_is_refused(pair: Pair, body: dict[str, object]) -> None:
    served, upstream = pair
    upstream.script(hang())
    asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=body))
    await upstream.request()
    await served.facade.close()
    assert "shutting down" in error_of(await asking, 503)["message"]


async def test_a_body_that_is_still_sent_is_refused(pair: Pair) -> None:
    served, upstream = pair
    async with connected(served.port) as wire:
        await wire.post("/v1/chat/completions", CHAT, less=1)
        while not served.facade.exchanges:
            await asyncio.sleep(0.01)
        await served.facade.close()
        assert b" 503 " in await wire.head()
    assert not upstream.requests


async def test_who_is_about_to_be_answered_is(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(say("Hello"))
    asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=CHAT))
    await upstream.request()
    await served.facade.close()
    assert (await asking).json()["choices"][0]["message"]["content"] == "Hello"
    await served.facade.close()  # nobody is there: it is done at once


async def test_a_client_that_leaves_meanwhile_is_no_fault(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    served, upstream = pair
    upstream.script(hang())
    async with connected(served.port) as wire:
        await wire.post("/v1/chat/completions", CHAT)
        await upstream.request()
        closing = asyncio.create_task(served.facade.close())
        await asyncio.sleep(0)
    await closing
    assert not served.facade.exchanges
    assert "rror" not in capsys.readouterr().out


async def test_a_drain_waits_for_what_is_being_answered(pair: Pair) -> None:
    served, upstream = pair
    go_on = asyncio.Event()
    upstream.script(say("Hel", go_on, "lo"))
    asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=STREAM))
    await upstream.request()
    draining = asyncio.create_task(served.conversations.drain(600))
    await settled()
    assert not draining.done()
    go_on.set()
    await draining
    assert events_of((await asking).content)[-1] == "[DONE]"


async def test_a_second_drain_cuts_the_wait_of_the_first_short(pair: Pair) -> None:
    served, upstream = pair
    upstream.script(hang())
    asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=CHAT))
    await upstream.request()
    draining = asyncio.create_task(served.conversations.drain(600))
    await settled()
    assert not draining.done()
    await served.conversations.drain(0)
    await draining
    await served.facade.close()
    error_of(await asking, 503)


async def settled() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)

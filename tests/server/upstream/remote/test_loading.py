"""A server that still loads its model is waited for, whoever asks; what cannot wait is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from server.upstream.port import Call
from tests.server.upstream.remote.relay_helpers import call, read, scripted
from tests.support.upstream_script import LOADING, Exchange, document, fail, say


def waiting(path: str = "/chat/completions", *, stream: bool = False) -> Call:
    return replace(call(path, stream=stream), waits=True)


async def test_what_is_passed_on_waits() -> None:
    embeddings = document({"object": "list", "data": [], "model": "m"})
    for asked, good in (
        (waiting(), say("Hello")),
        (waiting(stream=True), say("Hello")),
        (waiting("/embeddings"), embeddings),
    ):
        async with scripted(LOADING, LOADING, good) as (server, passage):
            async with passage.call(asked) as reply:
                assert reply.status == 200
                assert await read(reply)
            first, _, last = server.requests
            assert first.raw == last.raw


async def test_one_that_goes_on_loading_is_told_with_when_to_come_again() -> None:
    async with scripted(*[LOADING] * 9, first_byte=2.0) as (server, passage):
        async with passage.call(waiting(stream=True)) as reply:
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
            assert b"Loading model" in await read(reply)
        assert 1 <= len(server.requests) <= 4


async def test_what_it_says_of_when_to_come_again_stands() -> None:
    slow = fail(503, "Loading model", headers={"retry-after": "60"})
    async with (
        scripted(*[slow] * 9, first_byte=2.0) as (_, passage),
        passage.call(waiting()) as reply,
    ):
        assert reply.headers["retry-after"] == "60"


async def test_a_deadline_is_kept() -> None:
    async with scripted(*[LOADING] * 9) as (server, passage):
        soon = asyncio.get_running_loop().time() + 2.0
        async with passage.call(replace(waiting(), deadline=soon)) as reply:
            assert reply.status == 503
        assert 1 <= len(server.requests) <= 4


async def test_what_does_not_wait_is_told_at_once() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    for asked in (call(), Call("POST", "/files", body=body(), waits=True)):
        async with scripted(LOADING) as (server, passage), passage.call(asked) as reply:
            assert reply.status == 503
            assert len(server.requests) == 1


async def test_any_other_503_is_told_at_once() -> None:
    async with scripted(fail(503, "overloaded")) as (server, passage):
        async with passage.call(waiting()) as reply:
            assert reply.status == 503
            assert "retry-after" not in reply.headers
        assert len(server.requests) == 1


async def test_however_many_wait_one_asks_at_a_time() -> None:
    crowd, rounds = 20, 4
    asked_while_loading = 0

    async def loads(exchange: Exchange) -> None:
        nonlocal asked_while_loading
        asked_while_loading += 1
        await (say("Hello") if asked_while_loading >= crowd + rounds else LOADING)(exchange)

    async def ask() -> int:
        async with passage.call(waiting()) as reply:
            return reply.status

    async with scripted() as (server, passage):
        server.otherwise = loads
        assert await asyncio.gather(*(ask() for _ in range(crowd))) == [200] * crowd
    assert asked_while_loading <= crowd + rounds + crowd


async def test_who_leaves_holds_up_nobody_who_waits() -> None:
    ready = asyncio.Event()

    async def loads(exchange: Exchange) -> None:
        await (say("Hello") if ready.is_set() else LOADING)(exchange)

    async def ask() -> int:
        async with passage.call(waiting()) as reply:
            return reply.status

    async with scripted() as (server, passage):
        server.otherwise = loads
        leaving, staying = asyncio.ensure_future(ask()), asyncio.ensure_future(ask())
        await server.request(2)  # both were told, and one has waited
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        ready.set()
        assert await staying == 200

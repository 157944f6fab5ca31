"""How long an OpenAI-compatible server is waited for, and when it is hung up on."""

from __future__ import annotations

import asyncio

import pytest

from server.upstream.port import (
    Finish,
    UpstreamFailedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from tests.server.upstream.remote.turn_helpers import PROMPT, scripted, told, until_broken
from tests.support.upstream_script import (
    LOADING,
    comments,
    drip,
    event,
    fail,
    flood,
    hang,
    say,
    stall,
    wire,
)


class TestPatience:
    """Each test would hang for a minute and fail if its one short bound did not end it."""

    async def test_silence_before_headers(self) -> None:
        async with scripted(hang(), first_byte=0.5) as (server, client):
            with pytest.raises(UpstreamTimeoutError):
                await told(client)
            await server.requests[0].gone.wait()
            assert len(server.requests) == 1

    async def test_headers_and_then_only_comments(self) -> None:
        async with scripted(comments(), first_byte=0.5) as (server, client):
            with pytest.raises(UpstreamTimeoutError, match="silent"):
                await told(client)
            await server.requests[0].gone.wait()

    async def test_events_without_data_are_no_more_than_comments(self) -> None:
        empty = drip(b"data:\n\n" * 10_000, every=0.001)
        async with scripted(empty, first_byte=0.5) as (_, client):
            with pytest.raises(UpstreamTimeoutError):
                await told(client)

    async def test_a_refusal_whose_text_never_ends_is_one_of_what_came(self) -> None:
        head = b"HTTP/1.1 400 No\r\ncontent-length: 99\r\n\r\nso"
        async with scripted(wire(head, asyncio.Event()), linger=0.05) as (_, client):
            with pytest.raises(UpstreamRejectedError, match="so"):
                await told(client)

    async def test_silence_after_a_piece(self) -> None:
        async with scripted(stall("Hel"), between=0.5) as (server, client):
            pieces, error = await until_broken(client)
            assert pieces == ["Hel"]
            assert isinstance(error, UpstreamTimeoutError)
            await server.requests[0].gone.wait()

    async def test_silence_after_the_finish_reason_is_an_end(self) -> None:
        last = event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        async with scripted(stall("Hello", last), between=0.5) as (server, client):
            assert await told(client) == ("Hello", Finish("length", None))
            await server.requests[0].gone.wait()

    async def test_a_slow_drip_that_is_never_silent(self) -> None:
        letters = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n' * 1_000
        async with scripted(drip(letters, every=0.001), total=0.5) as (server, client):
            _, error = await until_broken(client)
            assert isinstance(error, UpstreamTimeoutError)
            await server.requests[0].gone.wait()

    async def test_a_reader_that_takes_its_time_is_not_the_upstream_s_silence(self) -> None:
        gate = asyncio.Event()
        async with scripted(say("Hel", gate, "lo"), between=1.0) as (_, client):
            answer = client.complete(PROMPT)
            await anext(answer)
            await asyncio.sleep(1.1)
            following = asyncio.ensure_future(anext(answer))
            await asyncio.sleep(0)
            gate.set()
            assert await following == "lo"

    async def test_nobody_listens(self) -> None:
        async with scripted() as (server, client):
            server.refuse()
            with pytest.raises(UpstreamFailedError, match="could not be reached") as failure:
                await told(client)
            assert str(server.port) not in str(failure.value)


class TestHangsUp:
    async def test_when_the_iterator_is_closed(self) -> None:
        async with scripted(stall("Hel")) as (server, client):
            answer = client.complete(PROMPT)
            assert await anext(answer) == "Hel"
            await answer.aclose()  # type: ignore[attr-defined]
            await server.requests[0].gone.wait()

    async def test_when_the_reading_task_is_cancelled(self) -> None:
        async with scripted(stall("Hel")) as (server, client):
            started = asyncio.Event()

            async def read() -> None:
                async for _ in client.complete(PROMPT):
                    started.set()

            reading = asyncio.create_task(read())
            await started.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await server.requests[0].gone.wait()

    async def test_even_before_the_headers(self) -> None:
        async with scripted(hang()) as (server, client):
            reading = asyncio.create_task(told(client))
            request = await server.request()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await request.gone.wait()

    async def test_while_waiting_to_try_again(self) -> None:
        asks = fail(503, headers={"retry-after": "30"})
        async with scripted(asks) as (server, client):
            reading = asyncio.create_task(told(client))
            await server.request()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert len(server.requests) == 1

    async def test_on_an_error_inside_the_answer(self) -> None:
        async with scripted(stall(b"data: {no\n\n")) as (server, client):
            with pytest.raises(UpstreamFailedError):
                await told(client)
            await server.requests[0].gone.wait()


async def test_an_endless_refusal_is_cut_short() -> None:
    async with scripted(flood(b"no " * 1_000, status=400)) as (server, client):
        with pytest.raises(UpstreamRejectedError) as refusal:
            await told(client)
        assert len(refusal.value.message) == 1_000
        await server.requests[0].gone.wait()


async def test_a_server_that_still_loads_is_waited_for() -> None:
    async with scripted(LOADING, LOADING, LOADING, LOADING, say("Hello"), retries=0) as (_, client):
        assert "".join([str(one) async for one in client.complete(PROMPT)][:-1]) == "Hello"


async def test_one_that_never_has_loaded_is_given_up() -> None:
    async with scripted(*[LOADING] * 9, retries=0, first_byte=2.0) as (server, client):
        with pytest.raises(UpstreamFailedError, match="Loading"):
            [one async for one in client.complete(PROMPT)]
        assert 1 <= len(server.requests) <= 4


async def test_comments_are_signs_of_life_of_one_that_is_near() -> None:
    last = event({"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]})
    hel = event({"choices": [{"delta": {"content": "Hel"}}]})
    slow = drip(hel + b": here\n\n" * 150 + last + b"data: [DONE]\n\n", every=0.002)
    async with scripted(slow, slow, between=1.0, comments_count=True) as (_, client):
        assert await told(client) == ("Hello", Finish("stop", None))
    async with scripted(slow, between=1.0) as (_, client):
        pieces, error = await until_broken(client)
        assert pieces == ["Hel"]
        assert isinstance(error, UpstreamTimeoutError)


async def test_while_a_prompt_is_read_the_first_word_is_waited_for() -> None:
    reads = event({"choices": [{"delta": {}}], "prompt_progress": {"total": 9, "processed": 3}})
    last = event({"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]})
    slow = drip(reads + b": here\n\n" * 150 + last + b"data: [DONE]\n\n", every=0.002)
    async with scripted(slow, between=1.0, first_byte=30.0) as (_, client):
        assert await told(client) == ("lo", Finish("stop", None))

"""Chat completions through `/v1`, with OpenAI's own client and byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.server.transports.openai.openai_client import (
    CHAT,
    MESSAGES,
    Pair,
    connected,
    error_of,
    events_of,
    member,
    passage,
    serving,
)
from tests.support.upstream_script import (
    KEY,
    MODEL,
    Behaviour,
    Exchange,
    document,
    event,
    fail,
    hang,
    say,
    stall,
    wire,
)
from tests.support.upstream_server import ScriptedUpstream

ERRORS: list[tuple[int, str | None, type[openai.APIStatusError]]] = [
    (400, "context_length_exceeded", openai.BadRequestError),
    (401, "invalid_api_key", openai.AuthenticationError),
    (403, None, openai.PermissionDeniedError),
    (404, "model_not_found", openai.NotFoundError),
    (409, None, openai.ConflictError),
    (422, None, openai.UnprocessableEntityError),
    (429, "insufficient_quota", openai.RateLimitError),
    (500, None, openai.InternalServerError),
    (503, None, openai.InternalServerError),
]


class TestOpenAIsClient:
    async def test_an_answer(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hel", "lo"))
        answer = await served.openai.chat.completions.create(model=MODEL, messages=MESSAGES)  # type: ignore[arg-type]
        ChatCompletion.model_validate(answer.model_dump(mode="json"), strict=True)
        assert answer.choices[0].message.content == "Hello"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 18
        assert answer._request_id

    async def test_a_stream(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hel", "lo"))
        stream = await served.openai.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk.model_dump(mode="json"), strict=True)
        said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert "".join(text or "" for text in said) == "Hello"
        assert chunks[-1].usage is not None

    async def test_it_works_without_asyncio_too(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("one"), say("t", "wo"))

        def talk() -> list[str | None]:
            with openai.OpenAI(api_key="a", base_url=served.base_url) as client:
                create = client.chat.completions.create
                one = create(model=MODEL, messages=MESSAGES)  # type: ignore[call-overload]
                two = create(model=MODEL, messages=MESSAGES, stream=True)  # type: ignore[call-overload]
                told = "".join(chunk.choices[0].delta.content or "" for chunk in two)
                return [one.choices[0].message.content, told]

        assert await asyncio.to_thread(talk) == ["one", "two"]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_error_is_of_its_class(self, pair: Pair, stream: bool) -> None:
        served, upstream = pair
        for status, code, kind in ERRORS:
            upstream.script(fail(status, "This model's maximum context length is 5", code=code))
            with pytest.raises(kind) as raised:
                await served.openai.chat.completions.create(  # type: ignore[call-overload]
                    model=MODEL, messages=MESSAGES, stream=stream
                )
            error = raised.value
            assert error.code == code
            assert isinstance(error.body, dict)
            assert error.body["message"] == "This model's maximum context length is 5"
            assert error.request_id

    async def test_it_tries_again_by_itself(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(500), fail(429, headers={"retry-after-ms": "1"}), say("good"))
        client = served.openai.with_options(max_retries=2)
        answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "good"
        assert len(upstream.requests) == 3

    async def test_tools_and_pictures_go_by(self, pair: Pair) -> None:
        served, upstream = pair
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL}
        upstream.script(document({**head, "choices": [choice]}))
        asked: list[Any] = [
            {"role": "developer", "content": "Be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
        ]
        answer = await served.openai.chat.completions.create(
            model=MODEL, messages=asked, tools=[{"type": "function", "function": {"name": "f"}}]
        )
        ChatCompletion.model_validate(answer.model_dump(mode="json"), strict=True)
        assert answer.choices[0].message.tool_calls
        assert upstream.requests[0].body["messages"] == asked


class TestTheWire:
    async def test_the_upstream_gets_what_was_sent_and_our_key(self, pair: Pair) -> None:
        served, upstream = pair
        body = b'{ "messages":[{"role":"user","content":"hi"}],  "model":"x", "top_k": 7, "n":null}'
        headers = {"authorization": "Bearer mine", "cookie": "a=b", "api-key": "mine"}
        await served.client.post(
            "/v1/chat/completions?api-version=2024-02-01&x=y", content=body, headers=headers
        )
        found = upstream.requests[0]
        assert found.raw == body
        assert found.path == "/v1/chat/completions?x=y"
        assert found.headers["authorization"] == f"Bearer {KEY}"
        assert "mine" not in str(found.headers)

    async def test_the_answer_is_what_the_upstream_said(self, pair: Pair) -> None:
        served, upstream = pair
        told = b'{"choices":[{"index":0,"logprobs":null,"finish_reason":"stop","message":'
        told += b'{"role":"assistant","content":"hi","refusal":null}}],"id":"1","created":1,'
        told += b'"model":"m","object":"chat.completion","usage":{"prompt_tokens":1,'
        told += b'"completion_tokens":1,"total_tokens":2}}  \n'
        own = {"x-ratelimit-remaining-tokens": "9", "set-cookie": "a=b", "x-request-id": "theirs"}
        upstream.script(document(told, headers=own))
        response = await served.client.post("/v1/chat/completions", json=CHAT)
        assert response.content == told
        assert response.headers["x-ratelimit-remaining-tokens"] == "9"
        assert response.headers["x-upstream-request-id"] == "theirs"
        assert response.headers["x-request-id"].startswith("req_")
        assert response.headers["openai-processing-ms"].isdigit()
        assert "set-cookie" not in response.headers

    async def test_every_event_is_one_write(self, pair: Pair) -> None:
        served, upstream = pair
        gate = asyncio.Event()
        pieces = [b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","cho']
        pieces += [b'ices":[{"index":0,"delta":{"content":"\xf0\x9f']
        pieces += [b'\x98\x80"},"finish_reason":"stop"}]}\n', b"\n: ping\n\ndata: [DONE]\n\n"]

        async def in_bits(exchange: Exchange) -> None:
            await exchange.open_stream(role=False)
            await exchange.chunk(b": early\n\n")
            for piece in pieces:
                await exchange.chunk(piece)
            await gate.wait()
            await exchange.chunk(b"")

        upstream.script(in_bits)
        async with connected(served.port) as wire:
            await wire.post("/v1/chat/completions", {**CHAT, "stream": True})
            await wire.head()
            assert await wire.chunk() == b"".join(pieces[:3]) + b"\n"
            assert await wire.chunk() == b"data: [DONE]\n\n"
            gate.set()
            assert await wire.chunk() == b""

    async def test_events_arrive_as_they_are_said(self, pair: Pair) -> None:
        served, upstream = pair
        gates = [asyncio.Event() for _ in range(3)]
        upstream.script(say("a", gates[0], "b", gates[1], "c", gates[2]))
        stream = await served.openai.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=MESSAGES, stream=True
        )
        heard = ""
        async for chunk in stream:
            heard += chunk.choices[0].delta.content or ""
            if heard and heard == "abc"[: len(heard)] and len(heard) <= len(gates):
                gates[len(heard) - 1].set()
        assert heard == "abc"

    async def test_headers_of_a_stream(self, pair: Pair) -> None:
        served, _ = pair
        response = await served.client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"]
        assert "content-length" not in response.headers
        assert events_of(response.content)[-1] == "[DONE]"

    async def test_a_doubled_slash_and_one_at_the_end_do_no_harm(self, pair: Pair) -> None:
        served, _ = pair
        for path in ("/v1//chat/completions", "/v1/chat/completions/"):
            assert (await served.client.post(path, json=CHAT)).status_code == 200

    async def test_half_a_letter_in_a_question_goes_by(self, pair: Pair) -> None:
        served, upstream = pair
        body = b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}]}'
        response = await served.client.post("/v1/chat/completions", content=body)
        assert response.status_code == 200
        assert upstream.requests[0].raw == body

    async def test_ten_thousand_chunks_are_the_same_bytes_and_no_more_memory(
        self, pair: Pair
    ) -> None:
        served, upstream = pair
        sent, received = hashlib.sha256(), hashlib.sha256()

        async def talk(exchange: Exchange) -> None:
            await exchange.open_stream(role=False)
            for number in range(10_000):
                piece = event(exchange.piece(f" word{number} é😀"))
                sent.update(piece)
                await exchange.chunk(piece)
            for last in (event(exchange.piece(None, "stop")), b"data: [DONE]\n\n"):
                sent.update(last)
                await exchange.chunk(last)
            await exchange.chunk(b"")

        upstream.script(talk)
        asked = {**CHAT, "stream": True}
        tracemalloc.start()
        try:
            async with served.client.stream("POST", "/v1/chat/completions", json=asked) as response:
                count, early = 0, 0
                async for piece in response.aiter_raw():
                    received.update(piece)
                    count += len(piece)
                    if not early and count > 300_000:
                        early, _ = tracemalloc.get_traced_memory()
                        tracemalloc.reset_peak()
                _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert received.digest() == sent.digest()
        assert early
        assert peak - early < 2 << 20


class TestHangingUp:
    @pytest.mark.parametrize(
        ("silent", "stream"),
        [(hang(), False), (hang(), True), (stall("hi"), True)],
        ids=["whole", "before", "after"],
    )
    async def test_the_upstream_sees_it(self, pair: Pair, silent: Behaviour, stream: bool) -> None:
        served, upstream = pair
        upstream.script(silent)
        async with connected(served.port) as wire:
            await wire.post("/v1/chat/completions", {**CHAT, "stream": stream})
            found = await upstream.request()
            if stream and silent.__qualname__.startswith("stall"):
                await wire.reader.readuntil(b'"hi"')
        await found.gone.wait()
        assert upstream.requests == [found]

    async def test_openais_client_that_stops_reading(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(stall("hi"))
        stream = await served.openai.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=MESSAGES, stream=True
        )
        async for _ in stream:
            break
        await stream.close()
        await upstream.requests[0].gone.wait()

    async def test_leaving_in_the_middle_of_a_body_asks_nobody(self, pair: Pair) -> None:
        served, upstream = pair
        async with connected(served.port) as wire:
            await wire.post("/v1/chat/completions", CHAT, less=5)
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert len(upstream.requests) == 1

    async def test_a_reader_who_is_slow_holds_the_upstream_back(self, pair: Pair) -> None:
        served, upstream = pair
        held = asyncio.Event()
        sent = 0

        async def talk(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.open_stream(role=False)
            while not held.is_set():
                sending = asyncio.create_task(exchange.chunk(event(exchange.piece("x" * 60_000))))
                done, _ = await asyncio.wait([sending], timeout=1)
                sent += 60_000
                if not done:
                    held.set()
                    await sending

        upstream.script(talk)
        async with connected(served.port) as wire:
            await wire.post("/v1/chat/completions", {**CHAT, "stream": True})
            await held.wait()
            assert sent < 64 << 20
        await upstream.requests[0].gone.wait()


class TestTheNextUpstream:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        "bad",
        [
            fail(500),
            fail(429),
            wire(b""),
            document(b"<html>", content_type="text/html"),
            document(b"{", content_type="text/event-stream"),
        ],
        ids=["500", "429", "hang-up", "html", "cut"],
    )
    async def test_it_answers_where_the_first_cannot(
        self, tmp_path: Path, bad: Behaviour, stream: bool
    ) -> None:
        async with ScriptedUpstream() as first, ScriptedUpstream() as second:
            first.script(bad)
            second.script(say("second"))
            members = [member(passage(first), "a"), member(passage(second), "b")]
            async with serving(tmp_path, members) as served:
                response = await served.client.post(
                    "/v1/chat/completions", json={**CHAT, "stream": stream}
                )
            assert response.status_code == 200
            assert b"second" in response.content
            assert first.requests[0].raw == second.requests[0].raw

    async def test_nobody_can_be_reached(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.refuse()
        error = error_of(await served.client.post("/v1/chat/completions", json=CHAT), 502)
        assert error["type"] == "server_error"
        assert "127.0.0.1" not in error["message"]

    async def test_conversations_are_written_by_the_same(self, tmp_path: Path) -> None:
        async with ScriptedUpstream() as upstream:
            one = member(passage(upstream))
            async with serving(tmp_path, [one]) as served:
                puppet = one.upstream
                puppet.answer("by hand")  # type: ignore[attr-defined]
                response: httpx2.Response = await served.client.post(
                    "/ask/c", json={"prompt": "hi", "model": "anything"}
                )
                assert response.json()["answer"] == "by hand"

"""Calls passed on to one upstream over real sockets, and its answers back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from server.openai_protocol.sse import events_of, one_by_one
from server.upstream.port import (
    Call,
    UpstreamFailedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from server.upstream.remote.client import UpstreamClient
from tests.server.upstream.remote.relay_helpers import answer, call, read, replied, scripted
from tests.support.upstream_script import (
    KEY,
    Behaviour,
    Exchange,
    comments,
    complain,
    cut,
    document,
    drip,
    event,
    flood,
    garbled,
    hang,
    reset,
    say,
    stall,
    truncated,
    wire,
)
from tests.support.upstream_server import ScriptedUpstream


class TestSending:
    async def test_a_body_goes_as_it_came_and_with_our_key(self) -> None:
        async with scripted() as (server, passage):
            body = b'{ "model":"m",  "messages" : [{"role":"user","content":"hi"}] }'
            headers = {"authorization": "Bearer theirs", "cookie": "a=b", "api-key": "theirs"}
            async with passage.call(Call("POST", "/images", "a=b", headers, body)) as reply:
                await read(reply)
            request = await server.request()
            assert request.raw == body
            assert request.path == "/v1/images?a=b"
            assert request.headers["authorization"] == f"Bearer {KEY}"
            assert request.headers["accept-encoding"] == "identity"
            assert "theirs" not in str(request.headers)
            assert "cookie" not in request.headers

    async def test_a_server_that_wants_no_key_gets_none(self) -> None:
        async with scripted(key=None) as (server, passage):
            async with passage.call(call()) as reply:
                await read(reply)
            assert "authorization" not in (await server.request()).headers

    async def test_a_login_in_the_address_is_shown_and_nothing_else_of_it(self) -> None:
        async with ScriptedUpstream() as server:
            address = server.base_url.replace("//", "//me:secret%21@")
            passage = UpstreamClient(api_key=None, base_url=f"{address}?api-version=1")
            async with passage.call(Call("POST", "/images", "x=y", {}, b"{}")) as reply:
                await read(reply)
            request = await server.request()
            assert request.headers["authorization"] == "Basic bWU6c2VjcmV0IQ=="
            assert request.path == "/v1/images?api-version=1&x=y"
            await passage.close()

    async def test_a_streamed_body_goes_in_its_length_or_in_chunks(self) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        async with scripted(document({}), document({})) as (server, passage):
            for headers in ({"content-length": "6"}, {}):
                async with passage.call(Call("POST", "/files", "", headers, body())) as reply:
                    await read(reply)
            assert [request.raw for request in server.requests] == [b"onetwo", b"onetwo"]
            assert "transfer-encoding" not in server.requests[0].headers

    async def test_a_large_body_goes_in_pieces(self) -> None:
        async with scripted() as (server, passage):
            async with passage.call(call(content="x" * (3 << 20))) as reply:
                await read(reply)
            request = await server.request()
            assert len(request.body["content"]) == 3 << 20
            assert request.headers["content-length"] == str(len(request.raw))

    async def test_what_breaks_a_body_is_raised_unchanged(self) -> None:
        class BrokenError(Exception):
            pass

        async def body() -> AsyncIterator[bytes]:
            yield b"x"
            raise BrokenError

        async with scripted() as (_, passage):
            with pytest.raises(BrokenError):
                async with passage.call(Call("POST", "/files", body=body())):
                    pass

    @pytest.mark.parametrize("path", ["/../admin", "/files/%2e%2e/%2E%2E/admin", "/a/..%5cb", "/."])
    async def test_no_path_leads_out_of_the_api(self, path: str) -> None:
        async with scripted() as (server, passage):
            with pytest.raises(UpstreamRejectedError) as refused:
                async with passage.call(Call("GET", path)):
                    pass
            assert (refused.value.status, server.requests) == (404, [])

    async def test_a_connection_is_used_again_after_a_stream(self) -> None:
        async with scripted() as (server, passage):
            for _ in range(3):
                async with passage.call(call(stream=True)) as reply:
                    await read(reply)
            assert {request.connection for request in server.requests} == {1}


class TestStreams:
    async def test_events_come_whole_and_as_they_were(self) -> None:
        async def in_bits(exchange: Exchange) -> None:
            await exchange.open_stream(role=False)
            for byte in stream:
                await exchange.send(b"1\r\n%b\r\n" % bytes([byte]))
            await exchange.chunk(b"")

        said = [
            b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
            b'[{"index":0,"delta":{"content":"\xc3\xa9"},"finish_reason":%b}]}\n\n' % finish
            for finish in (b"null", b'"stop"')
        ] + [b"data: [DONE]\n\n"]
        stream = b": early\n\n" + said[0] + b": late\n\n" + said[1] + said[2]
        async with replied(in_bits, asked=call(stream=True)) as reply:
            assert [event async for event in one_by_one(reply.body)] == said

    async def test_what_came_before_an_error_in_one_read_is_passed_on(self) -> None:
        for last in (event({"error": {"message": "boom"}}), b"data: {nonsense\n\n"):
            said = event({"choices": [{"index": 0, "delta": {"content": "hi"}}]})
            heard = []
            async with replied(say(said + said + last), asked=call(stream=True)) as reply:
                assert reply.status == 200
                with suppress(UpstreamFailedError):
                    async for one in one_by_one(reply.body):
                        heard.append(one)  # noqa: PERF401 - what was heard before it breaks stays
            assert b"".join(heard).count(b'"hi"') == 2
            assert (b"boom" in heard[-1]) == (b"boom" in last)

    async def test_events_of_one_read_are_one_piece(self) -> None:
        said = [event({"choices": [{"index": 0, "delta": {"content": f"{n}"}}]}) for n in range(9)]
        async with replied(say(b"".join(said)), asked=call(stream=True)) as reply:
            pieces = [piece async for piece in reply.body]
        assert any(len(events_of(piece)) >= 9 for piece in pieces)

    async def test_a_stream_is_read_no_faster_than_it_is_taken(self) -> None:
        chunk = event(
            {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
                "x": "y" * 9000,
            }
        )
        async with scripted(flood(chunk)) as (server, passage):
            async with passage.call(call(stream=True)) as reply:
                assert await anext(one_by_one(reply.body)) == chunk
            await (await server.request()).gone.wait()

    async def test_usage_that_was_not_asked_for_is_left_out(self) -> None:
        usage = event({"choices": [], "usage": {"prompt_tokens": 1}})
        told = say("hi", usage)
        assert b"prompt_tokens" not in await answer(told)
        asked = call(stream=True, stream_options={"include_usage": False})
        assert b"prompt_tokens" not in await answer(told, asked=asked)
        asked = call(stream=True, stream_options={"include_usage": True})
        assert b"prompt_tokens" in await answer(told, asked=asked)

    async def test_a_stream_without_its_mark_gets_it(self) -> None:
        assert (await answer(say("hi", done=False))).endswith(b"data: [DONE]\n\n")

    async def test_a_break_after_the_last_word_is_an_end(self) -> None:
        last = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        for broken in (truncated("hi", last), stall("hi", last)):
            assert (await answer(broken, linger=0.05)).endswith(b"data: [DONE]\n\n")

    async def test_a_text_completion_is_a_stream_too(self) -> None:
        body = await answer(say("hi"), asked=call("/completions", stream=True))
        assert b'"text": "hi"' in body
        assert body.endswith(b"[DONE]\n\n")

    @pytest.mark.parametrize(
        "broken",
        [cut("hi"), reset("hi"), truncated("hi"), garbled("hi"), drip(b"data: {\n\n", every=0)],
        ids=["cut", "reset", "truncated", "garbled", "dripped"],
    )
    async def test_a_stream_that_breaks_says_so(self, broken: Behaviour) -> None:
        with pytest.raises(UpstreamFailedError):
            await answer(broken)

    @pytest.mark.parametrize("broken", [cut(), reset(), garbled()], ids=["cut", "reset", "garbled"])
    async def test_one_that_breaks_before_its_first_word_may_tell_it_later(
        self, broken: Behaviour
    ) -> None:
        with pytest.raises(UpstreamFailedError):
            await answer(broken)

    async def test_an_error_inside_is_the_last_event(self) -> None:
        body = await answer(complain("hi", error={"message": f"no {KEY}", "type": "x"}))
        last = json.loads(body.split(b"data: ")[-1])
        assert last["error"] == {"message": "no [key]", "type": "x", "param": None, "code": None}

    async def test_an_event_that_never_ends_is_refused(self) -> None:
        with pytest.raises(UpstreamFailedError, match="too long"):
            await answer(flood(b"data: " + 9000 * b"x"), event_bytes=100_000)


class TestAnswers:
    async def test_an_answer_is_passed_on_as_it_came(self) -> None:
        told = b'{"choices":[{"index":0,"logprobs":null,"finish_reason":"stop","message":'
        told += b'{"role":"assistant","content":"hi","refusal":null}}],"id":"1","created":1,'
        told += b'"model":"m","object":"chat.completion","usage":{"prompt_tokens":1,'
        told += b'"completion_tokens":1,"total_tokens":2}}   \n'
        assert await answer(document(told), asked=call()) == told

    async def test_its_headers_are_those_fit_to_be_passed_on(self) -> None:
        own = {"x-ratelimit-limit-requests": "5", "set-cookie": "a=b", "x-request-id": "r"}
        async with replied(document({"choices": [{"message": {}}]}, headers=own)) as reply:
            body = await read(reply)
            assert dict(reply.headers) == {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "x-ratelimit-limit-requests": "5",
                "x-upstream-request-id": "r",
            }

    @pytest.mark.parametrize(
        "broken",
        [
            document(b"<html>", content_type="text/html"),
            document(b"{nonsense"),
            document({"choices": []}),
            document({}, headers={"content-encoding": "gzip"}),
            document({}, status=700),
            wire(
                b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{"
            ),
            wire(b"nonsense\r\n\r\n"),
            wire(b""),
        ],
        ids=["html", "nonsense", "empty", "gzip", "700", "short", "no-http", "nothing"],
    )
    async def test_what_is_no_answer_is_a_failure(self, broken: Behaviour) -> None:
        with pytest.raises(UpstreamFailedError) as failure:
            await answer(broken, asked=call())
        assert "127.0.0.1" not in str(failure.value)

    async def test_an_answer_without_end_is_refused(self) -> None:
        endless = flood(9000 * b" ", content_type="application/json")
        with pytest.raises(UpstreamFailedError, match="longer than"):
            await answer(endless, asked=call(), answer_bytes=100_000)

    async def test_a_stream_that_is_none_is_a_failure(self) -> None:
        with pytest.raises(UpstreamFailedError, match="not an event stream"):
            await answer(document(b"<html></html>", content_type="text/html"))
        with pytest.raises(UpstreamFailedError, match="cannot be read"):
            await answer(document({"choices": []}))

    async def test_an_answer_in_one_piece_is_the_stream_that_was_asked_for(self) -> None:
        call_ = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        message = {"content": "Hi", "tool_calls": [call_]}
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        whole = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}
        asked = call(stream=True, stream_options={"include_usage": True})
        said, told, done, _ = (await answer(document(whole), asked=asked)).split(b"\n\n")
        (choice,) = json.loads(said.removeprefix(b"data: "))["choices"]
        delta = {"role": "assistant", "content": "Hi", "tool_calls": [{"index": 0, **call_}]}
        assert (choice["delta"], choice["finish_reason"]) == (delta, "tool_calls")
        assert json.loads(told.removeprefix(b"data: "))["usage"] == usage
        assert done == b"data: [DONE]"

    async def test_an_error_in_the_place_of_an_answer_has_its_status(self) -> None:
        for error, status in (({"code": 429}, 429), ({"code": 400}, 400), ("broken", 502)):
            async with replied(document({"error": error})) as reply:
                assert reply.status == status
                assert set(json.loads(await read(reply))["error"]) >= {"message", "code"}

    async def test_nobody_listening_is_a_failure(self) -> None:
        async with scripted() as (server, passage):
            server.refuse()
            with pytest.raises(UpstreamFailedError, match="could not be reached"):
                async with passage.call(call()):
                    pass


class TestTime:
    async def test_a_stream_that_does_not_begin(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        for silent in (hang(), wire(head, asyncio.Event()), comments()):
            with pytest.raises(UpstreamTimeoutError):
                await answer(silent, first_byte=0.05)

    async def test_a_stream_that_falls_silent(self) -> None:
        for silent in (stall("hi"), comments("hi")):
            with pytest.raises(UpstreamTimeoutError):
                await answer(silent, between=0.05)

    async def test_a_stream_that_never_ends(self) -> None:
        chunk = event({"choices": [{"delta": {}, "finish_reason": None}]})
        with pytest.raises(UpstreamTimeoutError):
            await answer(flood(chunk), total=0.2, first_byte=0.2, between=0.2)

    async def test_an_answer_in_one_piece_has_the_whole_time(self) -> None:
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, gate.set)
        assert await answer(say("hi", gate), asked=call(), first_byte=0.01)
        with pytest.raises(UpstreamTimeoutError):
            await answer(hang(), asked=call(), total=0.05)


class TestLeaving:
    async def test_a_call_that_is_cancelled_before_its_answer_hangs_up(self) -> None:
        async with scripted(hang()) as (server, passage):
            asking = asyncio.create_task(self._ask(passage, asyncio.Event()))
            request = await server.request()
            asking.cancel()
            await request.gone.wait()
            await asyncio.wait([asking])

    async def test_a_call_that_is_cancelled_within_its_answer_hangs_up(self) -> None:
        async with scripted(stall("hi")) as (server, passage):
            begun = asyncio.Event()
            asking = asyncio.create_task(self._ask(passage, begun))
            await begun.wait()
            asking.cancel()
            await (await server.request()).gone.wait()
            await asyncio.wait([asking])

    async def _ask(self, passage: UpstreamClient, begun: asyncio.Event) -> None:
        async with passage.call(call(stream=True)) as reply:
            async for _ in reply.body:
                begun.set()

    async def test_leaving_the_context_hangs_up(self) -> None:
        async with scripted(stall("hi")) as (server, passage):
            async with passage.call(call(stream=True)):
                pass
            await (await server.request()).gone.wait()

    async def test_a_body_left_half_read_hangs_up(self) -> None:
        async with scripted(flood(b"x" * 1000, content_type="image/png")) as (server, passage):
            async with passage.call(Call("POST", "/images")) as reply:
                await anext(aiter(reply.body))
            await (await server.request()).gone.wait()


class TestModels:
    async def test_they_are_those_that_it_lists(self) -> None:
        async with scripted() as (_, passage):
            assert [one["id"] for one in await passage.models()] == ["gpt-4o-mini"]

    async def test_none_can_be_had(self) -> None:
        async with ScriptedUpstream() as server:
            passage = UpstreamClient(api_key=None, base_url=f"{server.base_url}/nowhere")
            with pytest.raises(UpstreamFailedError):
                await passage.models()
            await passage.close()

"""Every fault of an upstream ends as a client of OpenAI's can take it, never half valid."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.server.transports.openai.openai_client import (
    CHAT,
    MESSAGES,
    SHAPE,
    STREAM,
    Pair,
    error_of,
    events_of,
    passing,
)
from tests.support.upstream_script import (
    KEY,
    MODEL,
    Behaviour,
    comments,
    complain,
    cut,
    document,
    event,
    fail,
    garbled,
    hang,
    reset,
    say,
    stall,
    truncated,
    wire,
)


@pytest.fixture
async def hurried(tmp_path: Path) -> AsyncIterator[Pair]:
    """A server that waits for nothing long."""
    bounds = {"first_byte": 0.2, "between": 0.2, "total": 0.5}
    async with passing(tmp_path, bounds=bounds) as found:
        yield found


async def broken_stream(pair: Pair, fault: Behaviour) -> str:
    """Return what was said before a stream broke, which its last event has to tell."""
    served, upstream = pair
    upstream.script(fault)
    response = await served.client.post("/v1/chat/completions", json=STREAM)
    assert response.status_code == 200
    *events, last = events_of(response.content)
    assert set(last["error"]) == SHAPE
    assert last["error"]["message"].isascii()
    assert KEY not in response.text
    return "".join(one["choices"][0]["delta"].get("content", "") for one in events)


class TestInTheMiddle:
    @pytest.mark.parametrize(
        "fault",
        [
            reset("Hel"),
            truncated("Hel"),
            cut("Hel"),
            garbled("Hel"),
            say("Hel", b"data: 5\n\n"),
            say("Hel", b'data: {"choices": "?"}\n\n'),
        ],
        ids=["reset", "truncated", "cut", "garbled", "number", "nonsense"],
    )
    async def test_what_was_said_is_followed_by_an_error_and_no_end(
        self, pair: Pair, fault: Behaviour
    ) -> None:
        assert "Hel".startswith(await broken_stream(pair, fault))

    @pytest.mark.parametrize("fault", [stall("Hel"), comments("Hel")], ids=["stall", "comments"])
    async def test_silence_is_an_error_too(self, hurried: Pair, fault: Behaviour) -> None:
        assert "Hel".startswith(await broken_stream(hurried, fault))

    async def test_openais_client_raises_it(self, pair: Pair) -> None:
        served, upstream = pair
        gate = asyncio.Event()
        upstream.script(truncated("Hel", gate))
        stream = await served.openai.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=MESSAGES, stream=True
        )
        heard = ""

        async def hear() -> None:
            nonlocal heard
            async for chunk in stream:
                heard += chunk.choices[0].delta.content or ""
                if heard:
                    gate.set()

        with pytest.raises(openai.APIError, match="cut off"):
            await hear()
        assert heard == "Hel"

    async def test_an_error_inside_a_stream_is_kept(self, pair: Pair) -> None:
        served, upstream = pair
        error = {"message": f"Overloaded\nfor {KEY}", "type": "server_error", "code": "busy"}
        upstream.script(complain("Hel", error=error))
        response = await served.client.post("/v1/chat/completions", json=STREAM)
        last = events_of(response.content)[-1]
        assert last["error"] == {
            "message": "Overloaded for [key]",
            "type": "server_error",
            "param": None,
            "code": "busy",
        }


class TestBeforeTheFirstByte:
    async def test_an_error_in_the_place_of_a_stream_is_an_error_answer(self, pair: Pair) -> None:
        served, upstream = pair
        error = {"message": f"No {KEY}", "code": "context_length_exceeded"}
        upstream.script(document(event({"error": error}), content_type="text/event-stream"))
        response = await served.client.post("/v1/chat/completions", json=STREAM)
        assert error_of(response, 400, "context_length_exceeded")["message"] == "No [key]"

    async def test_a_401_of_a_joined_conversation_invites_too(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(fail(401, "No."))
        response = await served.client.post(
            "/v1/chat/completions", json=CHAT, headers={"x-conversation-id": "new"}
        )
        error_of(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
    @pytest.mark.parametrize(
        "fault",
        [
            wire(b""),
            wire(b"nonsense\r\n\r\n"),
            document(b"<html>Welcome</html>", content_type="text/html"),
            document(b"", content_type="text/plain"),
            fail(302, headers={"location": "http://127.0.0.1:1/x"}),
        ],
        ids=["hang-up", "no-http", "html", "nothing", "redirect"],
    )
    async def test_no_answer_is_an_error_answer(
        self, pair: Pair, fault: Behaviour, body: dict[str, object]
    ) -> None:
        served, upstream = pair
        upstream.script(fault)
        error = error_of(await served.client.post("/v1/chat/completions", json=body), 502)
        assert error["type"] == "server_error"
        assert "127.0.0.1" not in error["message"]

    @pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
    async def test_silence_is_a_timeout(self, hurried: Pair, body: dict[str, object]) -> None:
        served, upstream = hurried
        upstream.script(hang())
        error_of(await served.client.post("/v1/chat/completions", json=body), 504)
        await upstream.requests[0].gone.wait()

    async def test_an_answer_cut_in_two_is_none(self, pair: Pair) -> None:
        served, upstream = pair
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
        upstream.script(wire(head + b'{"choices": [{"mess'))
        error_of(await served.client.post("/v1/chat/completions", json=CHAT), 502)

    async def test_an_answer_that_is_an_error_is_one(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(document({"error": {"message": "no", "code": "rate_limit_exceeded"}}))
        response = await served.client.post("/v1/chat/completions", json=CHAT)
        error_of(response, 429, "rate_limit_exceeded")


class TestRefusals:
    async def test_they_keep_status_words_and_headers(self, pair: Pair) -> None:
        served, upstream = pair
        limits = {"retry-after": "7", "x-ratelimit-reset-tokens": "6m0s", "server": "theirs"}
        upstream.script(fail(429, "Slow down", code="rate_limit_exceeded", headers=limits))
        response = await served.client.post("/v1/chat/completions", json=STREAM)
        error = error_of(response, 429, "rate_limit_exceeded")
        assert error["message"] == "Slow down"
        assert response.headers["retry-after"] == "7"
        assert response.headers["x-ratelimit-reset-tokens"] == "6m0s"
        assert "server" not in response.headers

    async def test_every_shape_becomes_openais(self, pair: Pair) -> None:
        served, upstream = pair
        bodies: list[object] = [
            {"error": f"a string with {KEY}"},
            {"detail": [{"loc": ["body"], "msg": f"FastAPI's {KEY}"}]},
            {"message": "a proxy’s\nwords — über alles"},
            b"<html><h1>502 Bad Gateway</h1></html>",
            b"",
            b"\xff\xfe\x00",
        ]
        for status in (400, 404, 502):
            for body in bodies:
                upstream.script(document(body, status=status, content_type="text/html"))
                response = await served.client.post("/v1/chat/completions", json=CHAT)
                error_of(response, status)
                assert KEY not in response.text

    async def test_a_401_of_the_upstream_invites_in_our_words_alone(self, pair: Pair) -> None:
        served, upstream = pair
        challenge = {"www-authenticate": 'Basic realm="theirs"'}
        upstream.script(fail(401, f"Incorrect API key provided: {KEY}", headers=challenge))
        response = await served.client.post("/v1/chat/completions", json=CHAT)
        assert "[key]" in error_of(response, 401)["message"]
        assert response.headers.get_list("www-authenticate") == ["Bearer"]


class TestMended:
    async def test_no_end_is_given_one(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(say("Hello", done=False))
        response = await served.client.post("/v1/chat/completions", json=STREAM)
        assert events_of(response.content)[-1] == "[DONE]"

    async def test_a_letter_split_over_two_chunks_is_whole(self, pair: Pair) -> None:
        served, upstream = pair
        halves = [
            b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
            % half
            for half in (b"a\\ud83d", b"\\ude00b")
        ]
        upstream.script(say(*halves))
        stream = await served.openai.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=MESSAGES, stream=True
        )
        said = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(text or "" for text in said) == "a😀b"

    async def test_what_clients_cannot_take_is_left_out(self, pair: Pair) -> None:
        served, upstream = pair
        filters = event({"choices": [], "prompt_filter_results": []})
        null = event({"choices": [{"delta": {"role": "assistant", "content": None}}]})
        usage = event({"choices": [], "usage": {"prompt_tokens": 1}})
        upstream.script(say(b": ping\n\n", filters, null, "Hello", usage))
        response = await served.client.post("/v1/chat/completions", json=STREAM)
        *events, done = events_of(response.content)
        assert done == "[DONE]"
        for one in events:
            (choice,) = one["choices"]
            assert choice["delta"].get("content", "") is not None
        assert b"ping" not in response.content

    async def test_an_answer_gets_what_its_type_requires(self, pair: Pair) -> None:
        served, upstream = pair
        upstream.script(document({"choices": [{"message": {"content": "hi"}}]}))
        response = await served.client.post("/v1/chat/completions", json=CHAT)
        body = json.loads(response.content)
        assert body["object"] == "chat.completion"
        assert body["model"] == MODEL
        assert body["choices"][0] == {
            "index": 0,
            "message": {"content": "hi", "refusal": None, "role": "assistant"},
            "logprobs": None,
            "finish_reason": "stop",
        }

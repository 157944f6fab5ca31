"""When a stream of several choices, or with usage, is whole; what is counted where none is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.tokens.request import prompt_tokens, text_tokens
from server.upstream.port import UpstreamFailedError
from tests.server.upstream.remote.relay_helpers import answer, call, read, replied
from tests.support.upstream_script import (
    KEY,
    USAGE,
    Behaviour,
    complain,
    cut,
    document,
    event,
    say,
    stall,
    truncated,
)

MESSAGES = [{"role": "user", "content": "Hello there"}]
WANTED: dict[str, Any] = {"stream_options": {"include_usage": True}}
ENDED = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
SECOND = event({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}]})
TOLD = event({"choices": [], "usage": USAGE})


def later(seconds: float = 0.1) -> asyncio.Event:
    """Return what is waited for longer than a stream that is whole lingers here."""
    gate = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, gate.set)
    return gate


async def streamed(behaviour: Behaviour, **asked: Any) -> list[Any]:
    """Return the events of a stream; "[DONE]" where it ended well."""
    body = await answer(behaviour, asked=call(stream=True, **asked), linger=0.01)
    found = [one.removeprefix(b"data: ") for one in body.split(b"\n\n") if one]
    return [one.decode() if one == b"[DONE]" else json.loads(one) for one in found]


class TestChoices:
    async def test_one_that_has_not_begun_is_waited_for(self) -> None:
        *_, last, done = await streamed(say("A", ENDED, later(), SECOND, finish=None), n=2)
        assert last["choices"][0]["delta"] == {"content": "B"}
        assert done == "[DONE]"

    @pytest.mark.parametrize("broken", [cut, truncated], ids=["cut", "truncated"])
    async def test_one_that_never_came_is_a_break(self, broken: Any) -> None:
        with pytest.raises(UpstreamFailedError, match="cut off"):
            await streamed(broken("A", ENDED), n=2)

    async def test_an_upstream_that_gives_fewer_may_end_the_stream(self) -> None:
        assert (await streamed(say("A"), n=2))[-1] == "[DONE]"

    async def test_but_not_while_one_that_began_goes_on(self) -> None:
        begun = event({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": None}]})
        with pytest.raises(UpstreamFailedError, match="cut off"):
            await streamed(say("A", begun, ENDED, finish=None), n=2)

    async def test_each_prompt_of_a_text_completion_has_its_own(self) -> None:
        said = event({"choices": [{"index": 0, "text": "A", "finish_reason": "stop"}]})
        asked = call("/completions", stream=True, prompt=["a", "b"])
        with pytest.raises(UpstreamFailedError, match="cut off"):
            await answer(cut(said), asked=asked)


class TestUsage:
    async def test_it_is_waited_for_where_it_was_asked_for(self) -> None:
        late = say("A", ENDED, later(), TOLD, finish=None, usage=None)
        *_, last, done = await streamed(late, **WANTED)
        assert last["usage"] == USAGE
        assert done == "[DONE]"

    @pytest.mark.parametrize("silent", [say, cut, truncated], ids=["done", "cut", "truncated"])
    async def test_what_is_not_told_is_counted(self, silent: Any) -> None:
        more = {"usage": None} if silent is say else {}
        asked = {**WANTED, "messages": MESSAGES}
        first, *_, last, done = await streamed(silent("Hel", "lo", ENDED, **more), **asked)
        assert done == "[DONE]"
        assert last["choices"] == []
        assert (last["id"], last["model"]) == (first["id"], first["model"])
        prompt, said = prompt_tokens("m", MESSAGES), text_tokens("m", "Hello")
        assert last["usage"] == {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
        }

    async def test_one_that_never_comes_is_no_break(self) -> None:
        asked = call(stream=True, **WANTED)
        body = await answer(stall("A", ENDED), asked=asked, between=0.05, linger=60.0)
        assert b'"total_tokens"' in body
        assert body.endswith(b"data: [DONE]\n\n")

    async def test_it_is_told_once(self) -> None:
        with_it = event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USAGE})
        *chunks, _ = await streamed(say("A", with_it, finish=None, usage=None), **WANTED)
        assert [chunk["usage"] for chunk in chunks if "usage" in chunk] == [USAGE]

    @pytest.mark.parametrize("told", [{}, {"usage": None}, {"usage": {}}])
    async def test_an_answer_without_it_is_counted(self, told: dict[str, Any]) -> None:
        said = document({"choices": [{"message": {"content": "Hello"}}], **told})
        made = json.loads(await answer(said, asked=call(messages=MESSAGES)))
        prompt, tokens = prompt_tokens("m", MESSAGES), text_tokens("m", "Hello")
        assert made["usage"] == {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
        }

    async def test_so_is_a_text_completion(self) -> None:
        said = document({"choices": [{"text": "hello"}]})
        asked = call("/completions", prompt="hello hello")
        assert json.loads(await answer(said, asked=asked))["usage"]["total_tokens"] == 3


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            ({"message": "slow", "code": "rate_limit_exceeded"}, 429),
            ({"message": "too long", "code": "context_length_exceeded"}, 400),
            (f"broken by {KEY}", 502),
        ],
    )
    async def test_a_stream_of_nothing_else_is_a_refusal(self, error: object, status: int) -> None:
        first = document(event({"error": error}), content_type="text/event-stream")
        async with replied(first, asked=call(stream=True)) as reply:
            body = await read(reply)
            assert reply.status == status
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["content-length"] == str(len(body))
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        assert KEY.encode() not in body

    async def test_one_that_has_begun_stays_a_stream(self) -> None:
        async with replied(complain("hi", error="no"), asked=call(stream=True)) as reply:
            assert reply.status == 200
            assert b'"error"' in await read(reply)

    async def test_a_401_tells_how_to_come_in(self) -> None:
        refused = document({"error": {"message": "no"}}, status=401)
        first = event({"error": {"message": "no", "code": "invalid_api_key"}})
        late = document(first, content_type="text/event-stream")
        for said, stream in ((refused, False), (late, True)):
            async with replied(said, asked=call(stream=stream)) as reply:
                assert reply.status == 401
                assert reply.headers["www-authenticate"] == "Bearer"

"""What counts as an answer, and as its end, in what an OpenAI-compatible server streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from server.upstream.port import (
    Finish,
    UpstreamFailedError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from storage.model import Usage
from tests.server.upstream.remote.turn_helpers import (
    BASE,
    PROMPT,
    answer_to,
    scripted,
    told,
    until_broken,
)
from tests.support.upstream_script import (
    KEY,
    Behaviour,
    comments,
    complain,
    cut,
    document,
    event,
    flood,
    garbled,
    reset,
    say,
    stall,
    truncated,
    wire,
)

DONE = b"data: [DONE]\n\n"


def delta(text: object) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


class TestWholeOrCut:
    async def test_a_finish_reason_without_done_is_whole(self) -> None:
        async with scripted(say("Hello", done=False)) as (_, client):
            assert await told(client) == ("Hello", Finish("stop", Usage(11, 7)))

    async def test_done_without_a_finish_reason_is_whole(self) -> None:
        async with scripted(say("Hello", finish=None, usage=None)) as (_, client):
            assert await told(client) == ("Hello", Finish("stop", None))

    async def test_an_empty_answer_is_whole(self) -> None:
        assert await answer_to(say()) == ""

    async def test_a_break_after_the_finish_reason_is_whole(self) -> None:
        last = event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        async with scripted(truncated("Hello", last), retries=0) as (_, client):
            assert await told(client) == ("Hello", Finish("length", None))

    async def test_done_without_its_blank_line_is_whole(self) -> None:
        for end in (b"data: [DONE]", b"data: [DONE]\n"):
            assert await answer_to(cut("Hello", end)) == "Hello"

    async def test_done_on_a_connection_that_stays_open_is_whole(self) -> None:
        assert await answer_to(stall("Hello", DONE)) == "Hello"

    async def test_nothing_after_done_is_looked_at(self) -> None:
        assert await answer_to(say("Hello", DONE, delta("no"), b"data: {no\n\n")) == "Hello"

    @pytest.mark.parametrize("end", [cut, reset, truncated])
    async def test_neither_is_cut_off(self, end: Callable[..., Behaviour]) -> None:
        gate = asyncio.Event()
        async with scripted(end("Hel", gate)) as (_, client):
            answer = client.complete(PROMPT)
            assert await anext(answer) == "Hel"
            gate.set()
            with pytest.raises(UpstreamFailedError, match="the upstream's answer was cut off"):
                await anext(answer)

    async def test_an_answer_that_ends_within_an_event_is_cut_off(self) -> None:
        async with scripted(cut("Hel", b'data: {"choices": [{"del')) as (_, client):
            pieces, error = await until_broken(client)
        assert pieces == ["Hel"]
        assert isinstance(error, UpstreamFailedError)
        assert "cut off" in str(error)


class TestLetters:
    async def test_a_surrogate_pair_split_over_two_chunks_is_one_letter(self) -> None:
        halves = say("a", delta("\ud83d"), delta("\ude00"), "b")
        async with scripted(halves) as (server, client):
            assert (await told(client))[0] == "a😀b"
            assert len(server.requests) == 1

    async def test_a_half_that_stays_alone_becomes_the_replacement_letter(self) -> None:
        assert await answer_to(say(delta("a\ud83d"))) == "a\ufffd"
        assert await answer_to(say(delta("\ude00a"))) == "\ufffda"

    async def test_a_letter_split_over_two_reads_is_one_letter(self) -> None:
        one = b'data: {"choices":[{"delta":{"content":"' + "😀".encode() + b'"}}]}\n\n'
        at = one.index("😀".encode()) + 2
        gate = asyncio.Event()
        async with scripted(say("a", one[:at], gate, one[at:], "b")) as (_, client):
            answer = client.complete(PROMPT)
            assert await anext(answer) == "a"
            following = asyncio.ensure_future(anext(answer))
            await asyncio.sleep(0)
            gate.set()
            rest = [await following, *[piece async for piece in answer]]
            assert "".join(piece for piece in rest if isinstance(piece, str)) == "😀b"

    async def test_nul_is_dropped_and_empty_pieces_are_none(self) -> None:
        assert await answer_to(say("a\0b", "", "\0", "c")) == "abc"

    async def test_bytes_that_are_no_letters_are_replaced(self) -> None:
        bad = b'data: {"choices":[{"delta":{"content":"a\xffb"}}]}\n\n'
        assert await answer_to(say(bad)) == "a\ufffdb"


class TestStreams:
    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    async def test_line_ends_comments_and_other_fields(self, end: bytes) -> None:
        piece = delta("Hi").strip().removeprefix(b"data: ")
        fields = [b": ping", b"", b"event: x", b"id: 1", b"data:" + piece, b"retry: 1", b""]
        assert await answer_to(say(end.join([*fields, b"data: [DONE]", b"", b""]))) == "Hi"

    async def test_every_byte_in_a_read_of_its_own(self) -> None:
        data = delta("Hé 😀") + DONE
        assert await answer_to(say(*(bytes([byte]) for byte in data))) == "Hé 😀"

    async def test_chunks_without_choices_or_content_say_nothing(self) -> None:
        nothing: list[object] = [
            {"choices": []},
            {"choices": None},
            {},
            {"choices": [{"delta": {"content": None}}]},
            {"choices": [{"delta": {"reasoning_content": "hm"}}]},
            {"choices": [{"delta": None, "finish_reason": None}]},
            {"error": None, "choices": []},
        ]
        assert await answer_to(say(*map(event, nothing), b"data:\n\n", "Hi")) == "Hi"

    @pytest.mark.parametrize(
        "bad",
        [
            b"data: {no\n\n",
            b"data: []\n\n",
            b"data: 7\n\n",
            b'data: {"choices": [7]}\n\n',
            b'data: {"choices": 7}\n\n',
            b'data: {"choices": [{"delta": 7}]}\n\n',
            b'data: {"choices": [{"delta": {}, "finish_reason": 7}]}\n\n',
            b"data: " + b"[" * 100_000 + b"\n\n",
        ],
    )
    async def test_a_chunk_that_cannot_be_read_fails_what_came_before_it_stays(
        self, bad: bytes
    ) -> None:
        async with scripted(say("Hel", bad)) as (_, client):
            pieces, error = await until_broken(client)
        assert pieces == ["Hel"]
        assert isinstance(error, UpstreamFailedError)
        assert "cannot be read" in str(error)

    async def test_usage_that_makes_no_sense_is_no_usage(self) -> None:
        usages: list[object] = [{}, [], {"prompt_tokens": "1", "completion_tokens": 2}, 7]
        for usage in usages:
            chunk = event({"choices": [], "usage": usage})
            async with scripted(say("a", chunk, usage=None)) as (_, client):
                assert await told(client) == ("a", Finish("stop", None))


class TestErrorsInside:
    async def test_its_message_is_kept_and_so_is_the_answer_until_then(self) -> None:
        broken = complain("Hel", error={"message": "GPU\non fire", "type": "server_error"})
        async with scripted(broken) as (_, client):
            pieces, error = await until_broken(client)
        assert pieces == ["Hel"]
        assert isinstance(error, UpstreamFailedError)
        assert str(error) == "GPU on fire"

    async def test_its_key_is_not(self) -> None:
        async with scripted(complain("a", error={"message": f"bad {KEY}"})) as (_, client):
            _, error = await until_broken(client)
        assert str(error) == "bad [key]"

    @pytest.mark.parametrize(
        "error",
        [
            {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"},
            {"message": "slow down", "code": 429},
        ],
    )
    async def test_a_rate_limit(self, error: object) -> None:
        async with scripted(complain("a", error=error)) as (_, client):
            _, broken = await until_broken(client)
        assert isinstance(broken, UpstreamRateLimitedError)
        assert str(broken) == "slow down"

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            ({"message": "too long", "code": "context_length_exceeded"}, 400),
            ({"message": "too long", "type": "invalid_request_error", "code": None}, 400),
            ({"message": "too long", "type": "BadRequestError", "code": 400}, 400),
            ({"message": "too long", "code": "451"}, 451),
        ],
    )
    async def test_a_refusal(self, error: object, status: int) -> None:
        async with scripted(complain("a", error=error)) as (_, client):
            _, broken = await until_broken(client)
        assert isinstance(broken, UpstreamRejectedError)
        assert (broken.status, broken.message) == (status, "too long")

    async def test_a_quota_that_is_used_up(self) -> None:
        spent = {"message": "no more", "type": "insufficient_quota"}
        async with scripted(complain("a", error=spent)) as (_, client):
            _, broken = await until_broken(client)
        assert broken == UpstreamQuotaError("no more (insufficient_quota)")

    @pytest.mark.parametrize("error", ["boom", {"message": "boom", "code": 500}, {"x": 1}, 7])
    async def test_anything_else_is_a_failure(self, error: object) -> None:
        async with scripted(complain("a", error=error)) as (_, client):
            _, broken = await until_broken(client)
        assert isinstance(broken, UpstreamFailedError)
        assert str(broken) in ("boom", "the upstream reported an error")

    async def test_one_before_the_first_piece_is_tried_again(self) -> None:
        async with scripted(complain(error={"message": "overloaded"}), say("good")) as (_, client):
            assert (await told(client))[0] == "good"


class TestOtherBodies:
    async def test_a_whole_completion_is_one_piece(self) -> None:
        body = {
            "choices": [{"message": {"content": "Hel\0lo \ud83d"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        }
        async with scripted(document(body)) as (_, client):
            assert await told(client) == ("Hello \ufffd", Finish("length", Usage(3, 4)))

    @pytest.mark.parametrize("choice", [{"message": {"content": None}}, {"text": ""}])
    async def test_a_whole_completion_may_be_empty(self, choice: object) -> None:
        assert await answer_to(document({"choices": [choice]})) == ""

    async def test_an_error_with_status_200_is_an_error(self) -> None:
        error = {"error": {"message": "no such model", "code": "model_not_found"}}
        async with scripted(document(error)) as (_, client):
            with pytest.raises(UpstreamRejectedError, match="no such model"):
                await told(client)

    @pytest.mark.parametrize(
        "behaviour",
        [
            document({"hello": "world"}),
            document({"choices": []}),
            document([]),
            document(b"{no"),
            document(b""),
            document(b"<html>", content_type="text/html"),
            document(delta("Hi") + DONE, content_type="text/plain"),
            document(delta("Hi") + DONE, headers={"content-type": ""}),
            document(b"\x1f\x8b", headers={"content-encoding": "gzip"}),
            document(b"", status=204),
            document({"choices": [{"text": "a"}]}, status=301, headers={"location": "/v1/x"}),
            wire(b"no HTTP at all\r\n\r\n"),
            wire(b"HTTP/1.1 999999 x\r\n\r\n"),
            wire(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n"),
        ],
    )
    async def test_anything_else_fails(self, behaviour: Behaviour) -> None:
        async with scripted(behaviour, retries=0) as (server, client):
            with pytest.raises(UpstreamFailedError):
                await told(client)
            assert len(server.requests) == 1

    async def test_a_redirect_is_not_followed(self) -> None:
        async with scripted() as (other, _):
            away = document(b"", status=307, headers={"location": f"{other.base_url}/x"})
            async with scripted(away) as (_, client):
                with pytest.raises(UpstreamFailedError, match="redirect"):
                    await told(client)
            assert not other.requests


class TestBounds:
    @pytest.mark.parametrize("endless", [b"a" * 4_096, b": " + b"a" * 4_096, b"data: a\n" * 500])
    async def test_an_event_that_never_ends(self, endless: bytes) -> None:
        async with scripted(flood(endless), event_bytes=100_000) as (server, client):
            with pytest.raises(UpstreamFailedError, match="too long"):
                await told(client)
            await server.requests[0].gone.wait()

    async def test_an_event_that_is_too_long_only_once_it_ends(self) -> None:
        rest = b"data: " + b"a" * 60 + b"\ndata: " + b"a" * 60
        async with scripted(cut(rest), event_bytes=100) as (_, client):
            with pytest.raises(UpstreamFailedError, match="too long"):
                await told(client)

    async def test_a_document_that_never_ends(self) -> None:
        behaviour = flood(b" " * 10_000, content_type="application/json")
        async with scripted(behaviour, answer_bytes=100_000) as (server, client):
            with pytest.raises(UpstreamFailedError, match="longer than"):
                await told(client)
            await server.requests[0].gone.wait()

    async def test_an_answer_that_never_ends(self) -> None:
        async with scripted(flood(delta("aaaa")), answer_chars=1_000) as (server, client):
            pieces, error = await until_broken(client)
            assert "".join(pieces) == "a" * 1_000
            assert isinstance(error, UpstreamFailedError)
            assert "longer than 1000 characters" in str(error)
            await server.requests[0].gone.wait()

    async def test_a_piece_of_just_that_length_is_whole(self) -> None:
        assert await answer_to(say("a" * 1_000), answer_chars=1_000) == "a" * 1_000

    @pytest.mark.parametrize("as_stream", [True, False], ids=["streamed", "in one piece"])
    async def test_choices_without_number(self, as_stream: bool) -> None:
        choice: dict[str, Any] = {"message": {"content": "a"}, "delta": {"content": "a"}}
        many = {"choices": [choice] * 11}
        behaviour = say(event(many)) if as_stream else document(many)
        for bounds, word in ({"choices": 10}, "choices"), ({"parts": 30}, "parts"):
            async with scripted(behaviour, **bounds) as (_, client):
                with pytest.raises(UpstreamFailedError, match=f"more than .* {word}"):
                    await told(client)

    async def test_choices_that_begin_one_after_another(self) -> None:
        each = [event({"choices": [{"index": one, "delta": {}}]}) for one in range(11)]
        async with scripted(say(*each), choices=10) as (_, client):
            with pytest.raises(UpstreamFailedError, match="more than 10 choices"):
                await told(client)


async def test_comments_before_the_first_piece_do_no_harm() -> None:
    assert await answer_to(say(b": wait\n\n" * 3, "Hi")) == "Hi"


async def test_comments_between_pieces_do_not_count_as_life() -> None:
    async with scripted(comments("Hel"), between=0.5) as (_, client):
        pieces, error = await until_broken(client)
    assert pieces == ["Hel"]
    assert "silent" in str(error)


async def test_text_models_know_errors_and_cuts_too() -> None:
    async with scripted(garbled(" Hel"), cut(" Hel")) as (_, client):
        for _ in range(2):
            pieces, error = await until_broken(client, BASE)
            assert pieces == ["Hel"]
            assert isinstance(error, UpstreamFailedError)

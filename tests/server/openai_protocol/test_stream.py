"""Events of a completion's stream: the right ones pass unchanged, the others are mended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from server.openai_protocol.codec import MalformedError
from server.openai_protocol.expectations import Expectations
from server.openai_protocol.sse import data_of
from server.openai_protocol.stream import DONE, StreamNormalizer, failure
from server.upstream.remote.redaction import Redactor
from tests.support.upstream_script import KEY, event

SCRUB = Redactor(KEY, "http://secret.example:1234/v1")


def judge(*, chat: bool = True, usage: bool = False) -> StreamNormalizer:
    return StreamNormalizer("asked-for", SCRUB, chat=chat, expected=Expectations(usage=usage))


def piece(content: object = "hi", finish: object = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}],
        **more,
    }


def told(said: bytes) -> dict[str, Any]:
    found = json.loads(data_of(said))
    assert isinstance(found, dict)
    return found


class TestRight:
    def test_a_right_chunk_is_passed_on_as_it_came(self) -> None:
        said = b'data: {"choices" : [ {"delta":{},"index":0,"finish_reason":null} ],"id":"x",'
        said += b'"created":1,"model":"m","object":"chat.completion.chunk","more":1e1}\n\n'
        assert judge().take(said) is said

    def test_the_end_is_passed_on_and_nothing_after_it(self) -> None:
        chunks = judge()
        assert chunks.take(DONE) == DONE
        assert chunks.over
        assert chunks.close() == b""

    def test_comments_are_left_out(self) -> None:
        assert judge().take(b": OPENROUTER PROCESSING\n\n") == b""
        said = event(piece())
        assert judge().take(b": ping\n" + said) == said

    def test_an_event_of_nothing_is_left_out(self) -> None:
        chunks = judge(chat=False)
        assert chunks.take(b"data: null\n\n") == b""
        assert not chunks.over

    def test_usage_is_passed_on_where_it_was_asked_for_alone(self) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        said = event({**piece(), "choices": [], "usage": usage})
        assert judge(usage=True).take(said) == said
        assert judge().take(said) == b""
        assert judge(usage=True).take(event({**piece(), "choices": []})) == b""


class TestMended:
    @pytest.mark.parametrize("gone", ["id", "object", "created", "model"])
    def test_what_the_type_requires_is_put_in(self, gone: str) -> None:
        chunks = judge()
        chunk = piece()
        del chunk[gone]
        first, second = (told(chunks.take(event(chunk))) for _ in range(2))
        ChatCompletionChunk.model_validate(first, strict=True)
        assert first[gone] == second[gone]
        assert {**first, gone: chunk.get(gone)} == {**chunk, gone: None}

    def test_a_choice_gets_its_index_its_delta_and_its_ending(self) -> None:
        chunk = {**piece(), "choices": [{"delta": None}, {"delta": {"content": "x"}}]}
        made = told(judge().take(event(chunk)))
        ChatCompletionChunk.model_validate(made, strict=True)
        assert [choice["index"] for choice in made["choices"]] == [0, 1]
        assert [choice["finish_reason"] for choice in made["choices"]] == [None, None]

    def test_null_is_no_content(self) -> None:
        assert told(judge().take(event(piece(None))))["choices"][0]["delta"] == {}

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [("max_tokens", "length"), ("eos", "stop"), ("", None), ("tool_use", "tool_calls")],
    )
    def test_an_ending_is_one_that_openai_has(self, theirs: str, ours: str | None) -> None:
        made = told(judge().take(event(piece("", theirs))))
        assert made["choices"][0]["finish_reason"] == ours

    def test_a_text_completions_chunk_has_what_its_type_requires(self) -> None:
        made = told(judge(chat=False).take(event({"choices": [{"text": "a"}]})))
        made["choices"][0]["finish_reason"] = "stop"
        Completion.model_validate(made, strict=True)
        assert "logprobs" in made["choices"][0]


class TestSplitLetters:
    def test_a_letter_split_over_two_chunks_is_whole_in_the_second(self) -> None:
        chunks = judge()
        halves = [b"a\\ud83d", b"\\ude00b", b"c"]
        template = event(piece("HERE"))
        said = [chunks.take(template.replace(b"HERE", half)) for half in halves]
        assert [told(one)["choices"][0]["delta"]["content"] for one in said] == ["a", "😀b", "c"]
        assert said[2] == template.replace(b"HERE", b"c")

    def test_a_half_that_stays_alone_is_marked(self) -> None:
        chunks = judge()
        chunks.take(event(piece("HERE")).replace(b"HERE", b"\\ud83d"))
        last = piece("", "stop")
        last["choices"][0]["delta"] = {}
        made = told(chunks.take(event(last)))
        assert made["choices"][0]["delta"] == {"content": "\ufffd"}


class TestBroken:
    @pytest.mark.parametrize(
        "data",
        [
            b"{not json",
            b"[]",
            b'"text"',
            b'{"choices": 5}',
            b'{"choices": "abc"}',
            b'{"choices": [5]}',
            b'{"choices": [{"delta": 5}]}',
            b'{"choices": {"a": 1}}',
            b"\xff\xfe",
            b"[" * 100_000,
        ],
    )
    def test_what_cannot_be_read_breaks_the_stream(self, data: bytes) -> None:
        with pytest.raises(MalformedError):
            judge().take(b"data: " + data + b"\n\n")

    def test_text_that_is_none_breaks_a_text_completion(self) -> None:
        with pytest.raises(MalformedError):
            judge(chat=False).take(event({"choices": [{"text": None}]}))

    def test_an_error_inside_is_the_last_and_shows_neither_key_nor_address(self) -> None:
        chunks = judge()
        error = {"message": f"bad {KEY}\nat http://secret.example:1234/v1/x", "code": 500}
        made = told(chunks.take(event({"error": {**error, "metadata": {"raw": KEY}}})))["error"]
        assert chunks.over
        assert chunks.close() == b""
        assert set(made) == {"message", "type", "param", "code", "metadata"}
        assert made["code"] == "500"
        assert KEY not in str(made)
        assert "secret.example" not in str(made)

    def test_an_error_that_is_a_string_becomes_an_object(self) -> None:
        made = told(judge().take(event({"error": "overloaded"})))["error"]
        assert made == {
            "message": "overloaded",
            "type": "server_error",
            "param": None,
            "code": None,
        }


class TestEnds:
    def test_a_stream_that_ended_without_its_mark_gets_it(self) -> None:
        chunks = judge()
        chunks.take(event(piece("x", "stop")))
        assert chunks.whole
        assert chunks.close() == DONE

    def test_a_stream_is_whole_when_every_choice_has_ended(self) -> None:
        chunks = judge()
        two = piece()
        two["choices"].append({"index": 1, "delta": {}, "finish_reason": "stop"})
        chunks.take(event(two))
        assert not chunks.whole
        with pytest.raises(MalformedError):
            chunks.close()
        chunks.take(event(piece("", "length")))
        assert chunks.whole

    def test_a_stream_of_nothing_is_cut_off(self) -> None:
        with pytest.raises(MalformedError):
            judge().close()

    def test_a_failure_is_an_event_with_an_error_object(self) -> None:
        assert set(told(failure("gone"))["error"]) == {"message", "type", "param", "code"}

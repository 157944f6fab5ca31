"""What is in a chunk has OpenAI's types: calls of tools, contents, heads, counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from server.openai_protocol.codec import MalformedError
from server.openai_protocol.expectations import Expectations
from server.openai_protocol.stream import DONE, StreamNormalizer
from server.upstream.remote.redaction import Redactor
from tests.support.upstream_script import USAGE, event

SCRUB = Redactor(None, "http://localhost/v1")


def judge(choices: int = 1, *, usage: bool = False) -> StreamNormalizer:
    return StreamNormalizer("asked-for", SCRUB, chat=True, expected=Expectations(choices, usage))


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


def taken(chunks: StreamNormalizer, payload: dict[str, Any]) -> dict[str, Any]:
    """Return a chunk as it is passed on, which OpenAI's own type takes."""
    made = json.loads(chunks.take(event(payload)).removeprefix(b"data: "))
    ChatCompletionChunk.model_validate(made, strict=True)
    assert isinstance(made, dict)
    return made


def delta(chunks: StreamNormalizer, given: dict[str, Any]) -> dict[str, Any]:
    found = taken(chunks, chunk(given))["choices"][0]["delta"]
    assert isinstance(found, dict)
    return found


def called(chunks: StreamNormalizer, *calls: dict[str, Any]) -> list[dict[str, Any]]:
    found = delta(chunks, {"tool_calls": list(calls)})["tool_calls"]
    assert isinstance(found, list)
    return found


def call(id_: str | None = None, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"function": function} | ({"id": id_, "type": "function"} if id_ else {})


@pytest.mark.parametrize("none", [{}, {"choices": None}, {"choices": {}}])
def test_usage_may_come_without_choices(none: dict[str, Any]) -> None:
    chunks = judge(usage=True)
    taken(chunks, chunk({"content": "Hi"}, "stop"))
    told = {name: value for name, value in chunk({}).items() if name != "choices"}
    found = taken(chunks, {**told, "usage": USAGE, **none})
    assert (found["choices"], found["usage"]["prompt_tokens"]) == ([], USAGE["prompt_tokens"])
    assert chunks.close() == DONE
    assert judge().take(event({**told, **none})) == b""


class TestCalls:
    def test_right_ones_pass_as_they_came(self) -> None:
        chunks = judge()
        for piece in ({"index": 0, **call("a", "f")}, {"index": 0, **call(arguments="{}")}):
            said = event(chunk({"tool_calls": [piece]}))
            assert chunks.take(said) is said

    def test_they_are_numbered_in_their_order(self) -> None:
        chunks = judge()
        first = called(chunks, call("a", "f"), call("b", "g"))
        assert [one["index"] for one in first] == [0, 1]
        assert called(chunks, call("c", "h"))[0]["index"] == 2

    def test_pieces_belong_to_the_call_that_they_name_or_to_the_last(self) -> None:
        chunks = judge()
        called(chunks, call("a", "f"), call("b", "g"))
        assert called(chunks, call(arguments="{"))[0]["index"] == 1
        again = called(chunks, call("a", "f", "{}"))[0]
        # What is told once is not told again: clients put texts behind one another.
        assert again == {"index": 0, "type": "function", "function": {"arguments": "{}"}}

    def test_whole_ones_without_anything_are_all_new(self) -> None:
        chunks = judge()
        calls = [*called(chunks, call(None, "f", "{}")), *called(chunks, call(None, "g", "{}"))]
        assert [one["index"] for one in calls] == [0, 1]
        assert all(one["id"].startswith("call_") for one in calls)
        assert [one["type"] for one in calls] == ["function", "function"]

    def test_choices_have_calls_of_their_own(self) -> None:
        chunks = judge(2)
        for index in (0, 1):
            made = taken(chunks, chunk({"tool_calls": [call("a", "f")]}, index=index))
            assert made["choices"][0]["delta"]["tool_calls"][0]["index"] == 0

    def test_arguments_are_a_text(self) -> None:
        piece = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
        assert called(judge(), piece)[0]["function"]["arguments"] == '{"a":1}'
        of_old = {"function_call": {"name": "f", "arguments": {"a": 1}}}
        assert delta(judge(), of_old)["function_call"]["arguments"] == '{"a":1}'

    def test_an_ending_that_nobody_knows_is_theirs(self) -> None:
        chunks = judge()
        called(chunks, call("a", "f"))
        assert taken(chunks, chunk({}, "eos"))["choices"][0]["finish_reason"] == "tool_calls"

    @pytest.mark.parametrize("calls", ["no", {"a": 1}, [5]])
    def test_what_are_none_break_the_stream(self, calls: object) -> None:
        with pytest.raises(MalformedError):
            judge().take(event(chunk({"tool_calls": calls})))


class TestTypes:
    @pytest.mark.parametrize(
        ("content", "text"), [([{"type": "text", "text": "a"}, "b"], "ab"), (5, "5"), ([], "")]
    )
    def test_a_content_is_a_text(self, content: object, text: str) -> None:
        assert delta(judge(), {"content": content}) == {"content": text}

    def test_log_probabilities_tier_and_usage(self) -> None:
        odd = chunk({"content": "a"}) | {"service_tier": "on_demand", "usage": {}}
        odd["choices"][0]["logprobs"] = []
        made = taken(judge(), odd)
        assert "service_tier" not in made
        assert made["usage"] is made["choices"][0]["logprobs"] is None
        told = chunk({}, "stop") | {"usage": {"prompt_tokens": 1, "total_tokens": 2}}
        assert taken(judge(), told)["usage"] == USAGE


class TestHead:
    def test_the_first_one_is_that_of_all(self) -> None:
        chunks = judge(usage=True)
        first = taken(chunks, chunk({"content": "a"}))
        second = chunk({"content": "b"}) | {"id": "other", "created": 2, "model": "q"}
        last = {**second, "choices": [], "usage": USAGE}
        for other in (second, last):
            made = taken(chunks, other)
            assert all(made[name] == first[name] for name in ("id", "created", "model"))

    def test_a_chunk_that_is_left_out_has_none(self) -> None:
        chunks = judge()
        first = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        assert chunks.take(event(first)) == b""
        said = event(chunk({"content": "a"}))
        assert chunks.take(said) is said


class TestEnds:
    def test_a_choice_that_was_asked_for_and_has_not_begun_is_missing(self) -> None:
        chunks = judge(2)
        taken(chunks, chunk({}, "stop"))
        assert not chunks.whole
        with pytest.raises(MalformedError):
            chunks.close()
        taken(chunks, chunk({}, "stop", index=1))
        assert chunks.whole
        assert chunks.close() == DONE

    def test_usage_that_was_asked_for_is_waited_for(self) -> None:
        chunks = judge(usage=True)
        taken(chunks, chunk({}, "stop"))
        assert chunks.whole
        assert not chunks.settled
        assert chunks.uncounted is not None
        taken(chunks, {**chunk({}), "choices": [], "usage": USAGE})
        assert chunks.settled
        assert chunks.uncounted is None

    def test_nothing_is_counted_of_what_failed_or_was_never_said(self) -> None:
        chunks = judge(usage=True)
        chunks.take(DONE)
        assert chunks.uncounted is None
        chunks = judge(usage=True)
        taken(chunks, chunk({"content": "a"}))
        chunks.take(event({"error": "no"}))
        assert chunks.uncounted is None

"""Tests of reading a stream's deltas: parts one behind the other, however they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.upstream.deltas import LONGEST_NAME, MOST_PARTS, Deltas
from server.upstream.port import UpstreamFailedError
from storage.parts import Kind, Part

THOUGHT, TEXT, REFUSAL = (Part(kind) for kind in (Kind.REASONING, Kind.TEXT, Kind.REFUSAL))


def call(index: int, arguments: str = "", **head: str) -> dict[str, Any]:
    """Return a piece of a call; `head` may name it."""
    function: dict[str, Any] = {"arguments": arguments}
    if "name" in head:
        function["name"] = head.pop("name")
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def told(*deltas: dict[str, Any]) -> list[str | Part]:
    """Return all that is read, pieces of one part joined."""
    reader = Deltas()
    joined: list[str | Part] = []
    for piece in [
        *(one for delta in deltas for one in reader.take({"delta": delta})),
        *reader.close(),
    ]:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def test_text_begins_without_a_part() -> None:
    assert told({"content": ""}, {"content": "Hel"}, {"content": "lo"}) == ["Hello"]


def test_each_kind_begins_a_part() -> None:
    assert told(
        {"reasoning_content": "Hm"},
        {"content": "Look"},
        {"content": "ing."},
        call(0, id="a", name="f"),
        call(0, '{"x":'),
        call(0, "1}"),
        call(1, "{}", id="b", name="g"),
        {"content": "Done"},
        {"refusal": "No"},
    ) == [
        *(THOUGHT, "Hm", TEXT, "Looking."),
        *(Part(Kind.TOOL_CALL, "a", "f"), '{"x":1}', Part(Kind.TOOL_CALL, "b", "g"), "{}"),
        *(TEXT, "Done", REFUSAL, "No"),
    ]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_thought_by_either_name_is_told_once(name: str) -> None:
    assert told({name: "Hm"}) == [THOUGHT, "Hm"]
    assert told({"reasoning_content": "Hm", "reasoning": "Hm"}) == [THOUGHT, "Hm"]


def test_a_call_of_old_has_no_id() -> None:
    deltas = [{"function_call": {"name": "f"}}, {"function_call": {"arguments": "{}"}}]
    assert told(*deltas) == [Part(Kind.TOOL_CALL, None, "f"), "{}"]


def test_a_custom_call_takes_any_text() -> None:
    piece = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x}"}}
    more = {"index": 0, "custom": {"input": "}y"}}
    assert told({"tool_calls": [piece]}, {"content": "Hi"}, {"tool_calls": [more]}) == [
        *(Part(Kind.CUSTOM_TOOL_CALL, "a", "f"), "x}}y", TEXT, "Hi")
    ]


def test_the_first_call_is_told_while_it_is_written() -> None:
    reader = Deltas()
    assert reader.take({"delta": call(0, '{"x"', id="a", name="f")}) == [
        *(Part(Kind.TOOL_CALL, "a", "f"), '{"x"')
    ]
    assert reader.take({"delta": call(1, "{}", id="b", name="g")}) == []
    assert reader.take({"delta": call(0, ":1}")}) == [
        *(":1}", Part(Kind.TOOL_CALL, "b", "g"), "{}")
    ]
    assert reader.close() == []


def test_a_call_waits_for_its_name() -> None:
    assert told(
        {"content": "Hi"}, call(0, "{", id="a"), {"content": "!"}, call(0, "}", name="f")
    ) == [*("Hi!", Part(Kind.TOOL_CALL, "a", "f"), "{}")]


@given(
    st.lists(st.sampled_from("abt"), max_size=30),
)
def test_calls_written_in_turns_stand_one_behind_the_other(order: list[str]) -> None:
    whole = {"a": json.dumps({"a": "x" * 8}), "b": json.dumps({"b": [1, 2, {"c": "}"}]})}
    left = {name: list(text) for name, text in whole.items()}
    deltas = [call(0, id="a", name="f"), call(1, id="b", name="g")]
    for who in order:
        if who == "t":
            deltas.append({"content": "t"})
        elif left[who]:
            deltas.append(call("ab".index(who), left[who].pop(0)))
    deltas += [call(0, "".join(left["a"])), call(1, "".join(left["b"]))]
    found = told(*deltas)
    calls = {
        part.id: found[at + 1]
        for at, part in enumerate(found)
        if isinstance(part, Part) and part.id
    }
    assert calls == whole
    texts = "".join(
        one
        for at, one in enumerate(found)
        if isinstance(one, str) and (at == 0 or found[at - 1] == TEXT)
    )
    assert texts == "t" * order.count("t")


def test_letters_in_halves_are_joined_within_their_part() -> None:
    assert told({"content": "\ud83d"}, {"reasoning": "Hm"}, {"content": "\ude00"}) == [
        *(THOUGHT, "Hm", TEXT, "\U0001f600")
    ]
    assert told({"content": "a\0b\ud83d"}) == ["ab\ufffd"]
    pieces = [call(0, '{"x":"\ud83d', id="a", name="f"), call(0, '\ude00"}')]
    assert told(*pieces) == [Part(Kind.TOOL_CALL, "a", "f"), '{"x":"\U0001f600"}']


@pytest.mark.parametrize(
    "deltas",
    [
        [call(0, "{}", id="x" * (LONGEST_NAME + 1), name="f")],
        [call(0, "{}", id="a", name="x" * (LONGEST_NAME + 1))],
        [call(0, "{}", id="a", name="f"), {"content": "Hi"}, call(0, "more")],
        [{name: "x"} for _ in range(MOST_PARTS) for name in ("content", "reasoning")],
        [call(number, id=f"call_{number}") for number in range(MOST_PARTS + 1)],
    ],
    ids=["id", "name", "goes on", "parts", "calls without a name"],
)
def test_what_cannot_be_kept_is_refused(deltas: list[dict[str, Any]]) -> None:
    with pytest.raises(UpstreamFailedError):
        told(*deltas)


@pytest.mark.parametrize("between", [[], [{"content": "Hi"}]], ids=["at once", "text between"])
def test_calls_that_have_one_number_are_told_apart(between: list[dict[str, Any]]) -> None:
    one, other = call(0, '{"x":1}', id="a", name="f"), call(0, '{"y":', id="b", name="f")
    text: list[str | Part] = [TEXT, "Hi"] if between else []
    assert told(one, *between, other, call(0, "2}")) == [
        *(Part(Kind.TOOL_CALL, "a", "f"), '{"x":1}', *text),
        *(Part(Kind.TOOL_CALL, "b", "f"), '{"y":2}'),
    ]
    in_one = {"tool_calls": one["tool_calls"] + other["tool_calls"] + call(0, "2}")["tool_calls"]}
    assert told(in_one) == [
        *(Part(Kind.TOOL_CALL, "a", "f"), '{"x":1}', Part(Kind.TOOL_CALL, "b", "f"), '{"y":2}')
    ]


def test_a_call_that_is_named_anew_with_each_piece_is_one() -> None:
    pieces = [call(0, piece, id=f"call_{at}", name="f") for at, piece in enumerate('{"x":{}}')]
    assert told(*pieces) == [Part(Kind.TOOL_CALL, "call_0", "f"), '{"x":{}}']


def test_an_answer_of_many_empty_pieces_is_read_in_time() -> None:
    """What each costs does not grow with their number: with it, this would take minutes."""
    begun = [call(0, '{"x":', id="a", name="f"), call(1, "{}", id="b", name="g")]
    nameless = [call(number, id=f"call_{number}") for number in range(2, MOST_PARTS)]
    found = told(*begun, *nameless, *(call(0) for _ in range(100_000)), call(0, "1}"))
    assert found[:4] == [
        *(Part(Kind.TOOL_CALL, "a", "f"), '{"x":1}', Part(Kind.TOOL_CALL, "b", "g"), "{}")
    ]


def test_all_parts_together_have_one_bound() -> None:
    reader = Deltas(most=5)
    reader.take({"delta": {"content": "abc"}})
    reader.take({"delta": {"reasoning": "de"}})
    with pytest.raises(UpstreamFailedError, match="too long"):
        reader.take({"delta": call(0, "f", id="a", name="g")})


def test_white_space_behind_a_call_is_no_part_of_it() -> None:
    assert told(call(0, "{}", id="a", name="f"), {"content": "Hi"}, call(0, " \n")) == [
        *(Part(Kind.TOOL_CALL, "a", "f"), "{}", TEXT, "Hi")
    ]


def test_a_text_completion_has_text_alone() -> None:
    reader = Deltas()
    assert reader.take({"text": "Hi"}) == ["Hi"]

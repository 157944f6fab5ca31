"""A text that is to echo its prompt begins with it, whatever the upstream makes of that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from server.openai_protocol.codec import MalformedError
from server.openai_protocol.echo import Echo
from server.openai_protocol.expectations import Expectations, expectations_of
from server.openai_protocol.response import Most
from server.openai_protocol.sse import data_of
from server.openai_protocol.stream import DONE, StreamNormalizer

PROMPT = "Once upon"
LOGPROBS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def chunk(text: str, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish, **more}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps({**head, "choices": [choice]}).encode()


def streamed(
    events: Sequence[bytes], prompts: Sequence[str] = (PROMPT,), each: int = 1, most: int = 1000
) -> list[dict[str, Any]]:
    """Return the choices that come of a stream."""
    expected = Expectations(len(prompts) * each, echoed=tuple(prompts))
    normalizer = StreamNormalizer("m", str, chat=False, expected=expected, most=Most(chars=most))
    said = [normalizer.take(event) for event in events] + [normalizer.close()]
    whole = b"".join(said).split(b"\n\n")
    told = [json.loads(data_of(one)) for one in whole if one.startswith(b"data: {")]
    return [choice for one in told for choice in one["choices"]]


def text(choices: Sequence[dict[str, Any]], index: int = 0) -> str:
    return "".join(choice["text"] for choice in choices if choice["index"] == index)


@pytest.mark.parametrize(
    "pieces",
    [
        [" a time."],
        [" a", " time."],
        ["", " a", " time."],
        ["Once", " a time."],
        ["O", "n", "ce up", "side"],
        ["Once upo", "n"][:1],
        ["", ""],
    ],
)
def test_where_it_is_passed_over_the_prompt_is_put_in(pieces: list[str]) -> None:
    events = [*map(chunk, pieces), chunk("", finish="stop"), DONE]
    assert text(streamed(events)) == PROMPT + "".join(pieces)


@pytest.mark.parametrize(
    "pieces",
    [
        [PROMPT, " a time."],
        [PROMPT + " a", " time."],
        ["Once", " upon", " a time."],
        ["", "Once upo", "n a time."],
        [PROMPT],
        [PROMPT, PROMPT],
    ],
)
def test_where_it_is_there_it_is_there_once(pieces: list[str]) -> None:
    events = [*map(chunk, pieces), chunk("", finish="stop"), DONE]
    assert text(streamed(events)) == "".join(pieces)


def test_a_stream_that_echoes_at_once_passes_byte_for_byte() -> None:
    expected = Expectations(echoed=(PROMPT,))
    normalizer = StreamNormalizer("m", str, chat=False, expected=expected)
    events = [chunk(PROMPT), chunk(" a time."), chunk("", finish="stop")]
    assert [normalizer.take(event) for event in events] == events


def test_what_was_held_back_is_told_at_an_end_without_a_word_for_it() -> None:
    assert text(streamed([chunk("Once"), DONE])) == PROMPT + "Once"


def test_each_choice_has_its_own_prompt() -> None:
    events = [chunk(f" {n}", index=n, finish="stop") for n in (3, 0, 2, 1)]
    told = streamed([*events, DONE], prompts=("A", "B"), each=2)
    assert [text(told, n) for n in range(4)] == ["A 0", "A 1", "B 2", "B 3"]


def test_an_index_that_nobody_asked_for_echoes_nothing() -> None:
    odd = [chunk("x", index=n, finish="stop") for n in (7, -1)]
    told = streamed([*odd, chunk(" a", finish="stop"), DONE])
    assert [text(told, n) for n in (7, -1, 0)] == ["x", "x", "Once upon a"]


def logprobs(*tokens: str, at: int) -> dict[str, Any]:
    starts = [at + len("".join(tokens[:n])) for n in range(len(tokens))]
    values: tuple[Any, ...] = (list(tokens), [-0.5] * len(tokens), [{}] * len(tokens), starts)
    return dict(zip(LOGPROBS, values, strict=True))


def test_tokens_stand_where_they_are_in_the_whole_text() -> None:
    events = [
        chunk("O", logprobs=logprobs("O", at=0)),
        chunk("h", logprobs=logprobs("h", at=1)),
        chunk("!", logprobs=logprobs("!", at=2), finish="stop"),
        DONE,
    ]
    told = streamed(events)
    found = [one["logprobs"] for one in told if one["logprobs"]]
    assert [at for one in found for at in one["text_offset"]] == [9, 10, 11]
    assert [token for one in found for token in one["tokens"]] == ["O", "h", "!"]


def test_those_of_llama_cpp_too() -> None:
    content = [{"token": "Oh", "logprob": -0.5, "top_logprobs": []}]
    said = [chunk("Oh", logprobs={"content": content}), chunk("!", finish="stop"), DONE]
    told = streamed(said)
    assert told[0]["logprobs"]["text_offset"] == [9]
    assert text(told) == "Once uponOh!"


def test_a_whole_answer_begins_with_it_once() -> None:
    def mended(said: str) -> str:
        choice = {"index": 0, "text": said, "logprobs": None, "finish_reason": "stop"}
        Echo(Expectations(echoed=(PROMPT,)), 1000).mend_all([choice])
        return str(choice["text"])

    for said in (" a time.", "Once", "", "once upon"):
        assert mended(said) == PROMPT + said
    for said in (PROMPT, PROMPT + " a time."):
        assert mended(said) == said


def test_no_more_is_put_in_than_an_answer_may_have() -> None:
    events = [chunk("x", index=n, finish="stop") for n in range(4)]
    with pytest.raises(MalformedError):
        streamed(events, each=4, most=3 * len(PROMPT))


def asked(**body: Any) -> Expectations:
    return expectations_of("/completions", json.dumps(body).encode())


def test_what_is_echoed_is_read_from_the_call() -> None:
    assert asked(prompt="a", echo=True).echoed == ("a",)
    assert asked(prompt=["a", "b"], echo=True, n=2).echoed == ("a", "b")
    for echo in (False, None, "true", 1):
        assert asked(prompt="a", echo=echo).echoed == ()
    for prompt in ([1, 2], [[1], [2]], ["a", [1]], None, {"a": 1}):
        assert asked(prompt=prompt, echo=True).echoed == ()
    chat = json.dumps({"messages": [], "prompt": "a", "echo": True}).encode()
    assert expectations_of("/chat/completions", chat).echoed == ()

"""A request's own words are known again, whatever they were sent in."""

from __future__ import annotations

import json

import pytest

from server.upstream.remote.request_words import END_BYTES, NOTHING, Sent


def body(**said: object) -> Sent:
    return Sent(lambda: [json.dumps(said).encode()])


def test_nothing_says_nothing() -> None:
    assert not NOTHING.says("a")
    assert not NOTHING.shows("sk-abc")


@pytest.mark.parametrize(
    "word", ["secret-word", "SECRET-word", 'say "hi"', "back\\slash", "é", "日本"]
)
def test_a_word_is_said_in_any_case_and_escape(word: str) -> None:
    assert body(model=f"a {word} b").says(word)
    assert not body(model="nothing").says(word)
    assert Sent(lambda: [json.dumps({"a": word}, ensure_ascii=False).encode()]).says(word)


def test_a_path_and_a_form_are_unquoted() -> None:
    assert Sent(lambda: ["/files/a%2Fb", "q=c%20d"]).says("a/b")
    assert Sent(lambda: ["q=c%20d+e"]).says("c d e")


def test_a_long_body_is_looked_at_from_both_ends() -> None:
    long = b"first " + b"x" * 3 * END_BYTES + b" middle " + b"x" * 3 * END_BYTES + b" last"
    sent = Sent(lambda: [long])
    assert sent.says("first")
    assert sent.says("last")
    assert not sent.says("middle")


def test_a_shaped_word_is_shown_whole_or_by_its_beginning() -> None:
    sent = body(model="sk-mine-123")
    assert sent.shows("sk-mine-123")
    assert sent.shows("sk-mine…")
    assert not sent.shows("sk-mine-1234")
    assert not body(model="xsk-mine").shows("sk-mine")


def test_of_many_the_first_and_the_last_count() -> None:
    sent = body(prompt=" ".join(f"****{number:04}" for number in range(100)))
    assert [number for number in range(100) if sent.shows(f"****{number:04}")] == [
        *range(8),
        *range(92, 100),
    ]

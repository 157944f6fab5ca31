"""What an upstream's own words lose before they are repeated."""

from __future__ import annotations

import pytest

from server.upstream.scrub import Scrubber

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
scrub = Scrubber(KEY, "https://llm.example.com:8443/v1")


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Incorrect API key provided: {KEY[:11]}********6789.",
        "Incorrect API key provided: sk-ab***89.",
        "Incorrect API key provided: sk-abc…6789.",
        "Incorrect API key provided: ****6789.",
        f"Incorrect API key provided: {KEY[8:20]}",
        f"Incorrect API key provided: {KEY[-8:]}",
        f"key='{KEY}'",
        f'{{"authorization": "Bearer {KEY}"}}',
        "Bearer other-token-of-somebody-else",
        "AIzaSyA1234567890 is not valid",
        "gsk_1234567890 is not valid",
    ],
)
def test_keys_are_gone_whole_or_masked(said: str) -> None:
    clean = scrub(said)
    assert "[key]" in clean
    for start in range(len(KEY) - 3):
        assert KEY[start : start + 4] not in clean.replace("key provided", "")
    assert "6789" not in clean
    assert "somebody" not in clean


def test_the_rest_of_the_sentence_stays() -> None:
    said = f"Incorrect API key provided: {KEY}. You can find yours at https://platform.openai.com."
    assert scrub(said) == (
        "Incorrect API key provided: [key] You can find yours at https://platform.openai.com."
    )


def test_a_key_without_a_known_shape_is_gone_too() -> None:
    scrub = Scrubber("Zm9v+YmFy/cXV4=corge", "http://localhost")
    assert scrub("bad key Zm9v+YmFy/cXV4=corge!") == "bad key [key]"
    assert Scrubber("abc", "http://localhost")("key abc, abcd") == "key [key], abcd"


@pytest.mark.parametrize(
    "said",
    [
        "no route to https://llm.example.com:8443/v1/chat/completions",
        "no route to llm.example.com:8443",
        "no route to LLM.example.com",
        "no route to http://llm.example.com/x?y=z",
    ],
)
def test_the_address_is_gone(said: str) -> None:
    assert scrub(said) == "no route to [upstream]"


def test_another_name_that_contains_the_host_s_stays() -> None:
    scrub = Scrubber(None, "http://llm:8080/v1")
    assert scrub("the llm-server of llms at my.llm") == "the llm-server of llms at my.llm"


def test_a_password_in_the_address_is_gone() -> None:
    assert "hunter22" not in Scrubber(None, "http://me:hunter22@host/v1")("me:hunter22 is wrong")


def test_one_line_without_control_letters_or_halves() -> None:
    assert scrub("a\r\n\tb\0\x1b[31m  c\u2028d \ud83d") == "a b[31m c d \ufffd"


def test_at_most_a_thousand_characters() -> None:
    assert len(scrub("word " * 10_000)) == 1_000
    assert len(scrub("*" * 100_000)) <= 1_000
    assert len(scrub("a" * 100_000)) == 1_000


def test_ordinary_words_are_left_alone() -> None:
    said = "The task-force **must** use max_tokens <= 4096 (see the docs)."
    assert scrub(said) == said

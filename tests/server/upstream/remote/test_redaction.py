"""What an upstream's own words lose before they are repeated."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.openai_protocol.errors import complaint_of, refusal
from server.upstream.errors import refused
from server.upstream.remote.redaction import Redactor
from server.upstream.remote.request_words import Sent
from tests.support.upstream_script import KEY

redact = Redactor(KEY, "https://llm.example.com:8443/v1")


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Incorrect API key provided: {KEY[:11]}********6789.",
        "Incorrect API key provided: sk-ab***89.",
        "Incorrect API key provided: sk-abc…6789.",
        "Incorrect API key provided: ****6789.",
        f"Incorrect API key provided: {KEY[8:20]}",
        f"Incorrect API key provided: {KEY[-8:]}.",
        f"https://llm.example.com/?key={KEY}",
        f"key='{KEY}'",
        f'{{"authorization": "Bearer {KEY}"}}',
        "Bearer other-token-of-somebody-else",
        "AIzaSyA1234567890 is not valid",
        "gsk_1234567890 is not valid",
    ],
)
def test_keys_are_gone_whole_or_masked(said: str) -> None:
    clean = redact(said)
    assert "[key]" in clean
    for start in range(len(KEY) - 3):
        assert KEY[start : start + 4] not in clean.replace("key provided", "")
    assert "6789" not in clean
    assert "somebody" not in clean


def test_the_rest_of_the_sentence_stays() -> None:
    said = f"Incorrect API key provided: {KEY}. You can find yours at https://platform.openai.com."
    assert redact(said) == (
        "Incorrect API key provided: [key]. You can find yours at https://platform.openai.com."
    )


def test_a_key_without_a_known_shape_is_gone_too() -> None:
    redact = Redactor("Zm9v+YmFy/cXV4=corge", "http://localhost")
    assert redact("bad key Zm9v+YmFy/cXV4=corge!") == "bad key [key]!"
    assert redact("bad key Zm9v%2BYmFy%2FcXV4%3Dcorge!") == "bad key [key]!"
    assert Redactor("abc", "http://localhost")("key abc, abcd") == "key [key], abcd"


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
    assert redact(said) == "no route to [upstream]"


def test_another_name_that_contains_the_host_s_stays() -> None:
    redact = Redactor(None, "http://llm:8080/v1")
    assert redact("the llm-server of llms at my.llm") == "the llm-server of llms at my.llm"


def test_a_password_in_the_address_is_gone() -> None:
    redact = Redactor(None, "http://me:hunter%402@host/v1")
    assert redact("me:hunter@2 is wrong") == "me:[key] is wrong"
    assert redact("me:hunter%402 is wrong") == "me:[key] is wrong"
    assert redact("Basic bWU6aHVudGVyQDI= is wrong") == "Basic [key] is wrong"


def test_one_line_without_control_letters_or_halves() -> None:
    assert redact("a\r\n\tb\0\x1b[31m  c\u2028d \ud83d") == "a b[31m c d \ufffd"


def test_at_most_a_thousand_characters() -> None:
    assert len(redact("word " * 10_000)) == 1_000
    assert len(redact("*" * 100_000)) <= 1_000
    assert len(redact("a" * 100_000)) == 1_000


def test_ordinary_words_are_left_alone() -> None:
    said = "The task-force **must** use max_tokens <= 4096 (see the docs)."
    assert redact(said) == said


def test_a_key_that_is_cut_is_not_shown_in_part() -> None:
    """The text that is looked at ends within the key; spaces bring it to the front."""
    for shown in range(len(KEY)):
        said = "no " + " " * (4_000 - 3 - shown) + KEY
        assert KEY[:4] not in redact(said)


def test_our_own_words_are_left_alone() -> None:
    clean = Redactor("upstream", "http://status")
    said = refused(503, {}, complaint_of({"message": "upstream down"}, clean))
    assert str(said) == "the upstream failed with status 503: [key] down"
    made = json.loads(refusal(418, b"", Redactor("refused", "http://status")))
    assert made["error"]["message"] == "the upstream refused the request with status 418"


def asked(*words: str) -> Sent:
    return Sent(lambda: [json.dumps({"model": one}).encode() for one in words])


#: pieces of the key and of the address beside anything else
PIECES = st.one_of(
    st.builds(
        lambda start, length: KEY[start : start + length],
        st.integers(0, len(KEY)),
        st.integers(1, len(KEY)),
    ),
    st.sampled_from((KEY.upper(), "llm.example.com", "https://llm.example", "sk-", "***", "…")),
    st.text(string.ascii_letters + string.digits + '-_*/:"\\', max_size=9),
)
GUESS = st.lists(PIECES, min_size=1, max_size=4).map("".join)


@example(f"{KEY.upper()}***https://llm.example")
@given(GUESS)
def test_what_a_request_says_is_repeated_as_it_was_said(guess: str) -> None:
    for before, after in (("The model `", "` does not exist"), ("no '", "'"), ("", "")):
        said = before + guess + after
        assert redact.of(asked(guess))(said) == said


@given(GUESS, st.sampled_from((KEY, "sk-proj-ab***6789", "Bearer of-nobody-1234567890")))
def test_nor_does_it_show_in_what_the_upstream_adds(guess: str, added: str) -> None:
    told = redact.of(asked(guess))(f"The model `{guess}` is not for {added}, ask another")
    if KEY.casefold() not in guess.casefold() and added != guess:
        marked = added.replace(KEY, "[key]") if added == KEY else "[key]"
        marked = "Bearer [key]" if added.startswith("Bearer") else marked
        assert told == f"The model `{guess}` is not for {marked}, ask another"


@pytest.mark.parametrize("start", range(0, len(KEY) - 8, 5))
def test_how_a_key_begins_is_not_confirmed_by_naming_it(start: int) -> None:
    """Who lists many masks learns of none which is the right one."""
    listed = " ".join(f"****{number:04}" for number in range(6_700, 6_900))
    said = "Incorrect API key provided: ****6789"
    assert redact.of(asked(listed))(said) == "Incorrect API key provided: [key]"
    assert redact.of(asked(KEY[start : start + 8]))(said) == "Incorrect API key provided: [key]"


def test_a_word_is_known_in_whatever_escape_it_was_sent() -> None:
    written = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    for body in (f'{{"model": "{written}"}}', KEY.upper(), KEY.replace("-", "%2D")):
        sent = Sent(lambda body=body: [body.encode()])  # type: ignore[misc]
        assert redact.of(sent)(f"no {KEY}") == f"no {KEY}"

"""The rule by which answers are cut: part of the protocol, since numbers of events hang on it."""

from __future__ import annotations

import random

import pytest

from server.transports.openai.responses.words import LONGEST, Words

#: Never changed: what is stored is counted by it, and clients give its numbers back.
GOLDEN = [
    ("", []),
    ("Hello, world!", ["Hello,", " world!"]),
    ("  two  spaces ", ["  two", "  spaces", " "]),
    ("a\nb\n\n c", ["a", "\nb", "\n\n c"]),
    ("non\u00a0break", ["non", "\u00a0break"]),
    ("日本語 です", ["日", "本", "語", " で", "す"]),
    ("ideo\u3000graphic", ["ideo\u3000", "graphic"]),
    ("😀 ok😀ok", ["😀", " ok😀", "ok"]),
    ("ไทย", ["ไ", "ท", "ย"]),
    ("x" * 70, ["x" * 32, "x" * 32, "x" * 6]),
    (" " * 40 + "y", [" " * 32, " " * 8 + "y"]),
    ("z" * 32 + " w", ["z" * 32, " w"]),
    ("привет мир", ["привет", " мир"]),
    ("em\u2003space", ["em\u2003", "space"]),
]


def _cut(pieces: list[str]) -> list[str]:
    words = Words()
    return [word for piece in pieces for word in words.push(piece)] + words.close()


@pytest.mark.parametrize(("text", "pieces"), GOLDEN)
def test_the_rule(text: str, pieces: list[str]) -> None:
    assert _cut([text]) == pieces


def test_it_is_the_same_however_the_text_came() -> None:
    dice = random.Random(7)
    letters = "ab cd\n\u3000日😀\u00a0,." + "e" * 9
    for _ in range(300):
        text = "".join(dice.choices(letters, k=dice.randrange(200)))
        whole = _cut([text])
        assert "".join(whole) == text
        assert all(0 < len(piece) <= LONGEST for piece in whole)
        at, pieces = 0, []
        while at < len(text):
            end = at + dice.randrange(1, 50)
            pieces.append(text[at:end])
            at = end
        assert _cut(pieces) == whole


def test_what_may_grow_is_held_back_and_no_more() -> None:
    words = Words()
    assert words.push("Hel") == []
    assert words.push("lo wor") == ["Hello"]
    assert words.push("日") == [" wor日"]
    assert words.close() == []

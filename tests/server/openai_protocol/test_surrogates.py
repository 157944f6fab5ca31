"""Letters that are split over pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.openai_protocol.surrogates import Letters, fit_value, whole, word


def mend(*pieces: str) -> str:
    letters = Letters()
    return "".join([*(letters.push(piece) for piece in pieces), letters.close()])


def test_ordinary_text_is_left_alone() -> None:
    assert mend("héllo ", "😀", "") == "héllo 😀"


def test_a_pair_split_over_two_pieces_is_one_letter() -> None:
    letters = Letters()
    assert letters.push("a\ud83d") == "a"
    assert letters.push("\ude00b") == "😀b"
    assert letters.close() == ""


def test_empty_pieces_between_the_halves_make_no_difference() -> None:
    assert mend("\ud83d", "", "\ude00") == "😀"


def test_a_half_alone_becomes_the_replacement_letter() -> None:
    assert mend("\ud83d", "x") == "\ufffdx"
    assert mend("\ude00x") == "\ufffdx"
    assert mend("x\ud83d") == "x\ufffd"
    assert mend("\ud83d\ud83d", "\ude00") == "\ufffd😀"


def test_nul_is_dropped() -> None:
    assert mend("a\0b", "\0") == "ab"
    assert mend("\ud83d", "\0\ude00") == "😀"


@given(st.text(st.characters(codec="utf-16", exclude_categories=[]), max_size=20), st.data())
def test_any_cut_of_any_text_gives_that_text(text: str, data: st.DataObject) -> None:
    units = text.replace("\0", "").encode("utf-16-be")
    halves = [
        units[i : i + 2].decode("utf-16-be", "surrogatepass") for i in range(0, len(units), 2)
    ]
    at = data.draw(st.integers(0, len(halves)))
    assert mend("".join(halves[:at]), "".join(halves[at:])) == text.replace("\0", "")


@given(st.lists(st.sampled_from(["a", "\0", "\ud83d", "\ude00", "é"]), max_size=8))
def test_whatever_comes_can_be_encoded(pieces: list[str]) -> None:
    mended = mend(*pieces)
    mended.encode()
    assert mended == whole("".join(pieces).replace("\0", ""))


def test_a_word_is_short_and_whole() -> None:
    assert word("st\ud83do\0p") == "st\ufffdop"
    assert len(word("x" * 100_000)) == 64


def test_values_are_such_as_every_wire_can_tell() -> None:
    odd = {"a\ud83d": [1 << 63, -(1 << 64), float("nan"), float("-inf"), True, 1.5, None, "\0"]}
    assert fit_value(odd) == {"a\ufffd": [None, None, None, None, True, 1.5, None, ""]}
    assert fit_value([[["x"]]], depth=2) == [[None]]

"""The fields of a request, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields, read


def test_null_is_absent() -> None:
    fields = Fields({"a": None})
    assert fields.text("a") is None
    assert fields.integer("a", 1, 2) is None
    assert fields.part("a") is None
    assert fields.parts("a") is None
    assert fields.texts("a", 4) == ()
    assert fields.flag("a") is False


def test_whole_decimals_are_integers() -> None:
    assert Fields({"n": 3.0}).integer("n") == 3


def test_paths_of_parts() -> None:
    fields = Fields({"a": [{"b": {"c": 5}}]})
    [part] = fields.parts("a") or []
    inner = part.part("b")
    assert inner is not None
    with pytest.raises(ApiError) as caught:
        inner.text("c")
    assert caught.value.param == "a[0].b.c"
    assert str(caught.value) == (
        "Invalid type for 'a[0].b.c': expected a string, but got an integer instead."
    )


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_without_end_are_no_integers(value: float) -> None:
    with pytest.raises(ApiError):
        Fields({"n": value}).integer("n")


def test_half_a_pair_is_mended() -> None:
    assert read(b'{"a": "x\\ud83d"}').text("a") == "x\ufffd"
    assert read(b'{"a": "\\ud83d\\ude00"}').text("a") == "\U0001f600"

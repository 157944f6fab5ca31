"""Values are cut out of JSON whole, however it comes in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.archive import json_splitter
from server.core.archive.json_splitter import BrokenError, JsonSlice, cuts
from tests.server.core.archive.files import in_pieces, pieces

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\{}[]:, '))
VALUES = st.recursive(
    SCALARS | TEXTS, lambda of: st.lists(of) | st.dictionaries(TEXTS, of), max_leaves=12
)
SIZES = st.lists(st.integers(1, 7), max_size=60)


async def cut(data: bytes, size: int = 1000) -> list[JsonSlice]:
    return [one async for one in cuts(pieces(data, size))]


@given(st.lists(VALUES), st.booleans(), SIZES)
async def test_a_list_is_cut_into_its_items(
    values: list[Any], ascii_: bool, sizes: list[int]
) -> None:
    data = json.dumps(values, ensure_ascii=ascii_, indent=len(sizes) % 3).encode()
    found = [one async for one in cuts(in_pieces(data, sizes))]
    assert [json.loads(one.raw) for one in found] == values
    assert all(one.listed and one.key is None for one in found)


@given(st.dictionaries(TEXTS, VALUES), SIZES)
async def test_an_object_is_cut_into_its_members(members: dict[str, Any], sizes: list[int]) -> None:
    data = json.dumps(members).encode()
    found = [one async for one in cuts(in_pieces(data, sizes))]
    assert [(one.key, json.loads(one.raw)) for one in found] == list(members.items())


async def test_the_list_of_conversations_is_cut_too() -> None:
    found = await cut(b'{"a": 1, "conversations" : [ {"b": [2]} , {} ], "c": [3]}', size=1)
    assert [(one.key, one.listed, one.raw) for one in found] == [
        ("a", False, b"1"),
        ("conversations", True, b'{"b": [2]}'),
        ("conversations", True, b"{}"),
        ("c", False, b"[3]"),
    ]


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_a_byte_order_mark_is_passed_over(size: int) -> None:
    assert [one.raw for one in await cut(b"\xef\xbb\xbf[1, 2]\n", size)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"", 0),
        (b"PK\x03\x04", 0),
        (b"[1, 2", 1),
        (b"[1 2]", 1),
        (b"[1,]", 1),
        (b"[[1], [2}, 3", 2),
        (b'["a", "b', 1),
        (b'["a", "b\\', 1),
        (b'{"a": 1, b: 2}', 1),
        (b'{"a": 1, "b" 2}', 1),
        (b"[1] [2]", 1),
        (b"[1]]", 1),
    ],
)
async def test_what_stands_before_a_break_is_cut(data: bytes, kept: int) -> None:
    found = cuts(pieces(data, 2))
    for _ in range(kept):
        assert await anext(found)
    with pytest.raises(BrokenError):
        await anext(found)


async def test_where_it_breaks_is_told_in_bytes() -> None:
    with pytest.raises(BrokenError, match="byte 9"):
        await cut(b'["\xc3\xa4", 1 2]', size=3)


async def test_a_value_that_is_too_large_is_passed_over() -> None:
    data = b'["' + b"x\\n" * 500 + b'", {"a": [1, 2]}, [1, 2, 3]]'
    found = [one async for one in cuts(pieces(data, 50), largest=13)]
    assert [one.raw for one in found] == [b"", b'{"a": [1, 2]}', b"[1, 2, 3]"]
    assert found[0].problem == "It is larger than 13 bytes."


async def test_a_value_that_is_too_deep_is_passed_over() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    just = b"[" * json_splitter.DEEPEST + b"]" * json_splitter.DEEPEST
    first, second = await cut(b"[" + deep + b"," + just + b"]", size=1 << 16)
    assert first.problem == "It is nested deeper than 200 levels."
    assert second.raw == just

"""A file is told by what stands in it, and read as far as it is whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.archive.reading import read
from server.core.archive.records import Failed, Found
from server.core.errors import InvalidRequestError
from tests.server.core.archive.chatgpt_sample import WHOLE, conversation, node
from tests.server.core.archive.files import NOW, count, dumped, in_pieces, pieces, reads

THREE = [conversation(node(n, None), id=f"c{n}", conversation_id=f"c{n}") for n in range(3)]


class Upload:
    """A file as web frameworks give it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"PK\x03\x04\x14\x00",
        b"\x1f\x8b\x08\x00",
        b"7",
        b'"text"',
        b"[1, 2, 3]",
        b'["text"]',
        b'{"a": 1}',
        b'{"format": "other", "data": []}',
        b'[{"uuid": "x", "chat_messages": [{"text": "the \\"mapping\\""}]}]',
        b'{"mapping": 7}',
        b'{"mapping": {',
        b"[" + b"{}," * 5_000,
        dumped("[" * 10),
    ],
)
async def test_what_is_not_understood_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="Only JSON is understood"):
        await reads(data)


@pytest.mark.parametrize("data", [b"[]", b"{}", b" [ ] ", b"\xef\xbb\xbf[]"])
async def test_a_file_of_nothing_is_nothing(data: bytes) -> None:
    assert await reads(data) == []


async def test_a_file_that_is_read() -> None:
    whole = [one async for one in read(Upload(dumped(THREE)), count, now=NOW)]
    assert whole == await reads(THREE)
    assert len(whole) == 3


@pytest.mark.parametrize("bad", [None, 7, "text", [], {}, {"id": "x", "mapping": None}])
async def test_a_bad_conversation_fails_by_its_place(bad: Any) -> None:
    first, second, third, fourth = await reads([THREE[0], bad, *THREE[1:]])
    assert isinstance(second, Failed)
    assert second.index == 1
    assert all(isinstance(one, Found) for one in (first, third, fourth))
    assert fourth.index == 3


async def test_a_bad_conversation_may_be_the_first() -> None:
    first, second = await reads([None, THREE[0]])
    assert (first.index, second.index) == (0, 1)
    assert isinstance(first, Failed)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"mapping": {"a": 01}}', "It is not valid JSON: "),
        (b'{"mapping": {"a" 1}}', "It is not valid JSON: Expecting ':' delimiter"),
        (b'{"mapping": {"a": "\xff"}}', "It is not UTF-8."),
        (b'{"mapping": ' + b"9" * 5_000 + b"}", "It has a number of too many digits."),
        (b'{"mapping": ' + b"[" * 300 + b"]" * 300 + b"}", "It is nested deeper"),
    ],
)
async def test_what_is_no_json_fails_by_its_place(raw: bytes, reason: str) -> None:
    data = b"[" + b",".join([dumped(THREE[0]), raw, dumped(THREE[1])]) + b"]"
    first, second, third = await reads(data)
    assert isinstance(second, Failed)
    assert second.reason.startswith(reason)
    assert isinstance(first, Found)
    assert isinstance(third, Found)


@settings(deadline=None, max_examples=30)
@given(st.data())
async def test_a_file_that_is_cut_off_is_read_up_to_there(data: st.DataObject) -> None:
    whole = dumped(THREE)
    first = len(dumped(THREE[:1])) - 1
    end = data.draw(st.integers(first, len(whole) - 1))
    *kept, last = await reads(whole[:end])
    complete = [one for one in await reads(whole) if one.index < len(kept)]
    assert kept == complete
    assert isinstance(last, Failed)
    assert (last.index, last.reason[:9]) == (len(kept), "The JSON ")


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 400), max_size=40))
async def test_pieces_of_any_size_read_the_same(sizes: list[int]) -> None:
    data = json.dumps([WHOLE, *THREE], ensure_ascii=False, indent=1).encode()
    cut = [one async for one in read(in_pieces(data, sizes), count, now=NOW)]
    assert cut == await reads(data)


async def test_a_large_conversation_is_read_on_a_thread() -> None:
    nodes = [node(n, n - 1 if n else None, content="x" * 3_000) for n in range(200)]
    large, small = await reads([conversation(*nodes), THREE[0]])
    assert isinstance(large, Found)
    assert len(large.messages) == 200
    assert isinstance(small, Found)


async def test_others_have_their_turn_between_two_conversations() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await reads(dumped(THREE * 10), size=1 << 20)
    task.cancel()
    assert turns >= 29


async def test_the_reader_may_leave() -> None:
    found = read(pieces(dumped(THREE)), count)
    assert (await anext(found)).index == 0
    await found.aclose()

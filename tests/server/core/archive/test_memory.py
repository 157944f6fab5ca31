"""A large file is read in the memory of one conversation."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import pytest

from server.core.archive.importing import import_
from server.core.archive.reading import read
from server.core.archive.writing import write
from storage.sqlite import SQLiteStore
from tests.server.core.archive.chatgpt_sample import conversation, node, text
from tests.server.core.archive.files import count

LARGE = 50_000_000
MOST = 60_000_000
PAGE = 'Some words, "quoted", on lines;\n' * 400


def chat(number: int) -> bytes:
    first = number * 100
    nodes = [node(first + n, first + n - 1 if n else None, content=text(PAGE)) for n in range(40)]
    id_ = f"chat-{number}"
    return json.dumps(conversation(*nodes, id=id_, conversation_id=id_)).encode()


async def large() -> AsyncIterator[bytes]:
    """Yield a file of fifty megabytes that is nowhere whole."""
    written, number = 0, 0
    while written < LARGE:
        piece = (b"," if number else b"[") + chat(number)
        yield piece
        written += len(piece)
        number += 1
    yield b"]"


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.slow
async def test_reading_holds_one_conversation(traced: None) -> None:
    seen = 0
    async for one in read(large(), count):
        assert one.index == seen
        seen += 1
    assert seen > 80
    assert tracemalloc.get_traced_memory()[1] < MOST / 4


@pytest.mark.slow
async def test_a_large_file_in_and_out(traced: None, store: SQLiteStore) -> None:
    report = await import_(store, "anna", large(), count)
    assert report.failures == 0
    written = 0
    async for piece in write(store, "anna", "json"):
        written += len(piece)
    assert written > LARGE / 2
    assert tracemalloc.get_traced_memory()[1] < MOST

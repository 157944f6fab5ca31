"""A large file is read and written in the memory of one conversation."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import pytest

from server.core.archive.importing import import_
from server.core.archive.reading import read
from server.core.archive.writing import write
from storage.model import Content
from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.chatgpt_sample import conversation, node, text

LARGE = 50_000_000
MOST = 60_000_000
PAGE = 'Some words, "quoted", on lines;\n' * 1_000


async def count(content: Content) -> tuple[int, str]:
    return len(content), "letters"


def chat(number: int) -> bytes:
    first = number * 100
    nodes = [node(first + n, first + n - 1 if n else None, content=text(PAGE)) for n in range(20)]
    id_ = f"chat-{number}"
    return json.dumps(conversation(*nodes, id=id_, conversation_id=id_)).encode()


async def file(size: int) -> AsyncIterator[bytes]:
    """Yield a file of so many bytes that is nowhere whole."""
    written, number = 0, 0
    while written < size:
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
    async for one in read(file(LARGE), count):
        assert one.index == seen
        seen += 1
    assert seen > 50
    assert tracemalloc.get_traced_memory()[1] < MOST / 4


@pytest.mark.slow
async def test_an_import_and_an_export_hold_little(traced: None, store: SQLiteStore) -> None:
    size = LARGE // 10
    report = await import_(store, "anna", file(size), count)
    assert report.failures == 0
    assert tracemalloc.get_traced_memory()[1] < MOST / 4
    written = 0
    async for piece in write(store, "anna", "json"):
        written += len(piece)
    assert written > size * 0.9
    assert tracemalloc.get_traced_memory()[1] < MOST / 4

"""Files that come in pieces, and what reading them gives."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from server.core.archive.importing import Report, import_
from server.core.archive.reading import read
from server.core.archive.records import Failed, Found, Read
from server.core.archive.writing import write
from storage.model import Content, Message, Turn, text_of
from storage.port import Store

#: a question and its answer as EasyBackend keeps them
CHAT = "User: {}\n\n\nChatGPT: {}<|im_end|>\n"
#: owners that had nothing yet: hypothesis gives each example another
OWNERS = (f"owner {number}" for number in itertools.count())

NOW = 1_750_000_000_000_000


async def count(content: Content) -> tuple[int, str]:
    """Count words, in an encoding of our own."""
    return len(text_of(content).split()), "words"


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def in_pieces(data: bytes, sizes: Iterable[int]) -> AsyncIterator[bytes]:
    """Yield data in pieces of these sizes, and the rest whole."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


async def reads(data: bytes | Any, size: int = 1000) -> list[Read]:
    data = data if isinstance(data, bytes) else dumped(data)
    return [one async for one in read(pieces(data, size), count, now=NOW)]


async def found(data: Any) -> Found:
    """Read a file of one conversation."""
    (one,) = await reads(data)
    assert isinstance(one, Found), one
    return one


async def failed(data: Any) -> Failed:
    """Read a file of one conversation that cannot be kept."""
    (one,) = await reads(data)
    assert isinstance(one, Failed), one
    return one


async def imported(store: Store, data: bytes | Any, owner: str = "anna") -> Report:
    data = data if isinstance(data, bytes) else dumped(data)
    return await import_(store, owner, pieces(data), count, now=NOW)


async def exported(
    store: Store, format_: str = "json", conversation_id: str | None = None, owner: str = "anna"
) -> bytes:
    return b"".join([piece async for piece in write(store, owner, format_, conversation_id)])


async def everything(store: Store, owner: str, id_: str) -> tuple[list[Message], list[Turn]]:
    """Return all messages and turns of a conversation, as they are kept."""
    messages = await store.every_message(owner, id_, after=None, limit=10_000)
    turns = await store.every_turn(owner, id_, after=None, limit=10_000)
    return list(messages), list(turns)

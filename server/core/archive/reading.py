"""Reads a file of conversations, one after another, whichever program wrote it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from server.core.archive import chatgpt, easybackend, trialogue_json
from server.core.archive.json_splitter import LARGEST, BrokenError, JsonSlice, cuts
from server.core.archive.json_values import parsed
from server.core.archive.records import At, Count, Failed, Found, Read
from server.core.errors import InvalidRequestError
from storage.model import Message

UNDERSTOOD = (
    "Only JSON is understood that is our own export, ChatGPT's conversations.json (out of the zip "
    "file that it came in), or the histories of ChatGPT EasyBackend."
)

_CHUNK = 1 << 16
#: Of a file that nobody claims so much is looked at.
_MOST_UNCLAIMED = 1_000
#: A larger conversation is read on a thread; the event loop goes on beside it.
_AT_ONCE = 1 << 18
#: Messages counted before others have their turn.
_COUNTED_AT_ONCE = 20
#: Characters of an id that cannot be kept, in the report of its failing.
_LONGEST_ID = 128


@runtime_checkable
class Readable(Protocol):
    """An open file, as aiofiles and uploads are."""

    async def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a program's files are told, which of their values are conversations, what those say."""

    claims: Callable[[JsonSlice], bool]
    items: Callable[[AsyncIterator[JsonSlice]], AsyncIterator[JsonSlice]]
    interpret: Callable[[Any, At], Found]


FORMATS = (
    FileFormat(trialogue_json.claims, trialogue_json.items, trialogue_json.interpret),
    FileFormat(chatgpt.claims, chatgpt.items, chatgpt.interpret),
    FileFormat(chatgpt.claims_alone, chatgpt.alone, chatgpt.interpret),
    FileFormat(easybackend.claims, easybackend.items, easybackend.interpret),
    FileFormat(easybackend.claims_alone, easybackend.alone, easybackend.interpret),
)


async def read(
    source: AsyncIterator[bytes] | Readable, count: Count, *, now: int | None = None
) -> AsyncGenerator[Read, None]:
    """Yield what stands in a file, in its order, holding one conversation at a time.

    What cannot be kept is a Failed, and so is the place where the JSON breaks. `now` is the time
    of what tells none. Raises InvalidRequestError for a file of no format that is understood.
    """
    now = time.time_ns() // 1000 if now is None else now
    index, format_ = 0, None
    try:
        async with aclosing(cuts(_chunks(source))) as values:
            held, format_ = await _recognised(values)
            if format_ is None:
                return
            async for item in format_.items(_after(held, values)):
                at = At(index, item.key, now)
                yield await _counted(await _interpreted(item, at, format_), count)
                index += 1
    except BrokenError as error:
        if format_ is None:
            raise InvalidRequestError(f"{UNDERSTOOD} {error}") from None
        yield Failed(index, None, str(error))


async def _chunks(source: AsyncIterator[bytes] | Readable) -> AsyncIterator[bytes]:
    if isinstance(source, Readable):
        while chunk := await source.read(_CHUNK):
            yield chunk
        return
    async for chunk in source:
        yield chunk


async def _recognised(
    values: AsyncIterator[JsonSlice],
) -> tuple[list[JsonSlice], FileFormat | None]:
    """Read on until a format claims the file; None for an empty list or object."""
    held: list[JsonSlice] = []
    size = 0
    async for value in values:
        held.append(value)
        size += len(value.raw)
        for format_ in FORMATS:
            if format_.claims(value):
                return held, format_
        if len(held) > _MOST_UNCLAIMED or size > LARGEST:
            break
    if held:
        raise InvalidRequestError(UNDERSTOOD)
    return held, None


async def _after(
    held: Sequence[JsonSlice], values: AsyncIterator[JsonSlice]
) -> AsyncIterator[JsonSlice]:
    for value in held:
        yield value
    async for value in values:
        yield value


async def _interpreted(item: JsonSlice, at: At, format_: FileFormat) -> Read:
    # Others have their turn between two conversations, even where the source never waits.
    await asyncio.sleep(0)
    if item.problem is not None:
        return Failed(at.index, at.key, item.problem)
    if len(item.raw) > _AT_ONCE:
        return await asyncio.to_thread(_read, item, at, format_)
    return _read(item, at, format_)


def _read(item: JsonSlice, at: At, format_: FileFormat) -> Read:
    dropped: Counter[str] = Counter()
    value = None
    try:
        value = parsed(item.raw, dropped)
        found = format_.interpret(value, at)
    except InvalidRequestError as error:
        return Failed(at.index, _id_in(value) or at.key, str(error))
    return replace(found, dropped=dropped + Counter(found.dropped))


def _id_in(value: Any) -> str | None:
    match value:
        case {"conversation_id": str(id_)} | {"id": str(id_)}:
            return id_[:_LONGEST_ID]
    return None


async def _counted(read: Read, count: Count) -> Read:
    if isinstance(read, Failed):
        return read
    messages = []
    for place, message in enumerate(read.messages):
        if place % _COUNTED_AT_ONCE == 0:
            await asyncio.sleep(0)
        messages.append(await _with_tokens(message, count))
    return replace(read, messages=messages)


async def _with_tokens(message: Message, count: Count) -> Message:
    if message.encoding:
        return message
    tokens, encoding = await count(message.content)
    return replace(message, tokens=tokens, encoding=encoding)

"""Tests of those who stay: they read on while their key is good, and not a moment for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import structlog

from server.core.access.auth import Auth, new_key
from server.core.access.revocation import KeyWatch
from server.core.clock import microseconds
from server.core.errors import InvalidApiKeyError
from storage.keys import KeyFile


@pytest.fixture
def auth(key_file: KeyFile) -> Auth:
    return Auth((), key_file, microseconds, open_to_all=False, public=False)


class Line:
    """Yields what is put into it, and knows whether it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        self.waited = asyncio.Event()
        self.closed = False

    async def read(self) -> AsyncGenerator[int, None]:
        try:
            while True:
                if self.queue.empty():
                    self.waited.set()
                yield await self.queue.get()
        finally:
            self.closed = True


async def read(key_watch: KeyWatch, key: str, line: Line) -> list[int]:
    heard = []
    with key_watch.reading(key) as reader:
        async for one in reader.each(line.read()):
            heard.append(one)
            if one == 0:
                break
    return heard


async def test_one_who_waits_is_turned_out(auth: Auth, key_file: KeyFile) -> None:
    (anns, kept), (bobs, other) = new_key("ann", microseconds()), new_key("bob", microseconds())
    key_file.add(kept)
    key_file.add(other)
    mine, theirs = Line(), Line()
    async with KeyWatch(auth, 0.005) as key_watch:
        ann = asyncio.create_task(read(key_watch, anns, mine))
        bob = asyncio.create_task(read(key_watch, bobs, theirs))
        await asyncio.gather(mine.waited.wait(), theirs.waited.wait())
        key_file.revoke(kept.id, microseconds())
        with pytest.raises(InvalidApiKeyError):
            await ann
        assert mine.closed
        for number in (1, 0):
            theirs.queue.put_nowait(number)
        assert await bob == [1, 0]


async def test_one_who_is_busy_is_turned_out_before_the_next(auth: Auth, key_file: KeyFile) -> None:
    key, kept = new_key("ann", microseconds())
    key_file.add(kept)
    line = Line()
    heard: list[int] = []
    for number in (1, 2):
        line.queue.put_nowait(number)

    class Busy:
        """Stays as the reader does, to know when it was turned out."""

        def __init__(self) -> None:
            self.key = key
            self.out = asyncio.Event()

        def revoke(self, why: InvalidApiKeyError) -> None:
            self.out.set()

    async def reading() -> None:
        with key_watch.reading(key) as reader, key_watch.staying(Busy()) as busy:
            async for one in reader.each(line.read()):
                heard.append(one)
                key_file.revoke(kept.id, microseconds())
                await busy.out.wait()

    async with KeyWatch(auth, 0.005) as key_watch:
        with pytest.raises(InvalidApiKeyError):
            await reading()
    assert heard == [1]


async def test_one_who_leaves_by_himself_is_not_said_to_be_refused(
    auth: Auth, key_file: KeyFile
) -> None:
    key, kept = new_key("ann", microseconds())
    key_file.add(kept)
    line = Line()
    async with KeyWatch(auth, 3600) as key_watch:
        ann = asyncio.create_task(read(key_watch, key, line))
        await line.waited.wait()
        ann.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ann
    assert line.closed


async def test_keys_that_cannot_be_read_turn_nobody_out(auth: Auth, key_file: KeyFile) -> None:
    key, kept = new_key("ann", microseconds())
    key_file.add(kept)
    line = Line()
    with structlog.testing.capture_logs() as logs:
        async with KeyWatch(auth, 0.005) as key_watch:
            ann = asyncio.create_task(read(key_watch, key, line))
            await line.waited.wait()
            whole = key_file.path.read_bytes()
            key_file.path.write_bytes(b"{")
            while not logs:
                await asyncio.sleep(0.005)
            key_file.path.write_bytes(whole)
            line.queue.put_nowait(0)
            assert await ann == [0]
    assert {log["event"] for log in logs} == {"keys cannot be read"}

"""Work goes on though who asked for it has left, and can be waited for and stopped."""

from __future__ import annotations

import asyncio

import pytest

from server.live.background import Background


async def test_who_leaves_ends_nothing() -> None:
    background, go_on, done = Background(), asyncio.Event(), []

    async def work() -> None:
        await go_on.wait()
        done.append("all")

    asker = asyncio.create_task(_awaiting(background.begin(work())))
    await asyncio.sleep(0)
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    go_on.set()
    await background.over()
    assert done == ["all"]


async def test_what_is_begun_meanwhile_is_waited_for_too() -> None:
    background, done = Background(), []

    async def last() -> None:
        await asyncio.sleep(0)
        done.append("last")

    async def first() -> None:
        background.begin(last())

    background.begin(first())
    await background.over()
    assert done == ["last"]


async def test_an_error_that_nobody_fetches_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ValueError

    background = Background()
    background.begin(broken())
    await background.over()
    assert not caplog.records


async def test_what_is_stopped_has_ended() -> None:
    background = Background()
    task = background.begin(asyncio.Event().wait())
    await asyncio.sleep(0)
    await background.stop()
    assert task.cancelled()


async def _awaiting(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)

"""Signals are counted when they come, however long the loop is busy with something else."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import pytest

from server.app import lifecycle
from server.app.lifecycle import Addresses
from server.app.signals import Stopping
from server.config.settings import load
from storage.model import Status
from storage.sqlite.store import SQLiteStore

pytestmark = pytest.mark.usefixtures("own_folder", "process_as_it_was")


def send(number: signal.Signals) -> None:
    """Send this process a signal, which is heard before this returns, and the loop hears later."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_in_the_same_round_cuts_the_drain(second: signal.Signals) -> None:
    begun: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    ports = {"http_port": 0, "grpc_port": 0, "websocket_port": 0}
    settings = load({**ports, "eliza_delay": 3600, "drain_seconds": 3600})
    serving = asyncio.create_task(lifecycle.run(settings, begun.set_result))
    url = f"http://localhost:{(await begun).http_port}/ask/c"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"prompt": "Hello", "stream": True}) as answer,
    ):
        assert answer.status == 200
        send(signal.SIGTERM)
        send(second)
        assert b'"status":"interrupted"' in await answer.read()
        await serving
    async with SQLiteStore(settings.database_path) as store:
        assert await store.running() == []
        (turn,) = [await store.next_turn("default", "c", None)]
        assert turn is not None
        assert turn.status is Status.INTERRUPTED


async def test_while_serving_the_second_is_told_and_cuts_nothing_off() -> None:
    with Stopping() as stopping:
        with stopping.serving():
            send(signal.SIGTERM)
            assert not stopping.asked.is_set()  # the loop has not come to it
            await stopping.asked.wait()
            assert not stopping.hurried.is_set()
            send(signal.SIGTERM)
            await stopping.hurried.wait()
        await asyncio.sleep(0)


async def test_before_and_behind_it_the_second_ends_what_is_done() -> None:
    closed = False
    with Stopping() as stopping:
        with stopping.serving():
            send(signal.SIGTERM)
            await stopping.asked.wait()
        send(signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            closed = True
    assert closed
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_one_who_is_cancelled_otherwise_is_cancelled() -> None:
    async def serve() -> None:
        with Stopping() as stopping, stopping.serving():
            ready.set()
            await asyncio.Event().wait()

    ready, before = asyncio.Event(), signal.getsignal(signal.SIGTERM)
    serving = asyncio.create_task(serve())
    await ready.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert signal.getsignal(signal.SIGTERM) is before

"""How much memory a host has to give, where models sleep and end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from server.config.tables import LocalTable
from server.upstream.llama.engine import Engine
from server.upstream.llama.files.library import Library
from server.upstream.llama.host import Host, Loaded
from server.upstream.llama.memory import Plan


class Dozing:
    """A child, as far as a host asks it whether it sleeps."""

    def __init__(self, sleeps: bool) -> None:
        self.sleeps = sleeps
        self.asked, self.may_tell = asyncio.Event(), asyncio.Event()

    async def asleep(self) -> bool:
        self.asked.set()
        await self.may_tell.wait()
        return self.sleeps


def loaded(child: Any, size: int) -> Loaded:
    return Loaded("m", child, Plan(1, 1, size), 0.0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    def available(limit: int | None, taken: int, asleep: int, gpu: int) -> int:
        return 1000 - taken * 100 - asleep + gpu

    return Host(Library(tmp_path), Engine(None), LocalTable(), available)


async def test_what_ends_meanwhile_is_nobody_else_s_sleep(host: Host) -> None:
    first, second = Dozing(True), Dozing(False)
    host._loaded = [loaded(first, 1), loaded(second, 2)]
    free = asyncio.create_task(host._free())
    await first.asked.wait()
    del host._loaded[0]
    first.may_tell.set()
    second.may_tell.set()
    told, _ = await free
    assert told(0) == 800


async def test_what_sleeps_may_want_its_own_back(host: Host) -> None:
    sleeper = Dozing(True)
    sleeper.may_tell.set()
    host._loaded = [loaded(sleeper, 3)]
    free, gpu = await host._free()
    assert (free(0), free(50), gpu()) == (697, 747, 0)

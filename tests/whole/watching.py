"""Those who watch all that is theirs, over one wire."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any

import httpx2

from tests.support.all_mine import MineWire
from tests.support.wires import Events, RefusedError


class Watching:
    """Somebody who watches all over one wire."""

    def __init__(self, wire: MineWire) -> None:
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(wire))

    async def _read(self, wire: MineWire) -> None:
        async with aclosing(wire.news()) as events:
            async for event in events:
                await self._told.put(event)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while (told := await self._told.get())["conversation_id"].startswith("mark"):
                pass
        return told

    async def until(self, kind: str) -> dict[str, Any]:
        while (told := await self.next())["type"] != kind:
            pass
        return told

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def watching(wire: MineWire, http: str, headers: Mapping[str, str] | None = None) -> Watching:
    """Return somebody who watches, once the server tells them."""
    one = Watching(wire)
    async with httpx2.AsyncClient(base_url=http, headers=headers) as client:
        for number in itertools.count():
            await client.post("/conversations", json={"id": f"mark{number}"})
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await one._told.get()
                    return one
    raise AssertionError("nothing was told")


async def refusal(events: Events) -> str:
    """Return the code that a stream is refused with."""
    async with aclosing(events):
        try:
            async for _ in events:
                pass
        except RefusedError as refused:
            return refused.code
    return "not refused"

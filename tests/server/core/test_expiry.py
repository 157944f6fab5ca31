"""Old responses go, with the conversations that nothing else is in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, Defaults
from server.core.expiry import DAY, Expiry
from server.core.ids import NEW
from server.core.turns.placement import Utterance
from server.core.turns.questions import ROOT, Responding
from server.live.turn import Ended
from server.upstream.local.eliza.eliza import Eliza
from storage.model import Role, Turn
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore


async def asked(conversations: Conversations, *, named: bool = False) -> Turn:
    said = (Utterance(Role.USER, "Hello"),)
    question = Ask("Hello", parent_id=ROOT, response=Responding(said, named=named))
    turn = await conversations.responses.begin("ada", NEW, question)
    async for event in conversations.responses.follow("ada", turn.id):
        if isinstance(event, Ended):
            return event.turn
    raise AssertionError("no end")


async def test_they_go_when_their_time_is_over(tmp_path: Path) -> None:
    clock = [DAY]
    async with (
        SQLiteStore(tmp_path / "db") as store,
        core_of(store, Eliza(), Defaults("eliza"), now=lambda: clock[0]) as conversations,
    ):
        old, kept = await asked(conversations), await asked(conversations, named=True)
        clock[0] += 30 * DAY
        young = await asked(conversations)
        async with Expiry(conversations, 30, lambda: clock[0], look=0.001):
            clock[0] += 1
            while True:
                try:
                    await conversations.get("ada", old.conversation_id)
                except NotFoundError:
                    break
                await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            await conversations.responses.turn("ada", old.id)
        for turn in (kept, young):
            assert await conversations.responses.turn("ada", turn.id) == turn


async def test_without_days_they_stay(tmp_path: Path) -> None:
    async with (
        SQLiteStore(tmp_path / "db") as store,
        core_of(store, Eliza(), Defaults("eliza"), now=lambda: 1) as conversations,
    ):
        turn = await asked(conversations)
        async with Expiry(conversations, 0, lambda: 1 << 60, look=0) as expiry:
            assert expiry._task is None
        assert await conversations.responses.turn("ada", turn.id) == turn

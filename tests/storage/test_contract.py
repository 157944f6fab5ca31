"""Runs the store's contract on every adapter that there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from storage.port import Store
from storage.sqlite.store import SQLiteStore
from tests.storage.contract import (
    completions,
    conversations,
    lessons,
    objects,
    owners,
    transfer,
    turns,
    usage,
)

#: how each is opened, empty, in a folder of its own
ADAPTERS: Mapping[str, Callable[[Path], AbstractAsyncContextManager[Store]]] = {
    "sqlite": lambda folder: SQLiteStore(folder / "trialogue.db"),
}


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with ADAPTERS[request.param](tmp_path) as opened:
        yield opened


class TestIsolation(owners.Isolation): ...


class TestConversations(conversations.Conversations): ...


class TestBranches(conversations.Branches): ...


class TestTurns(turns.Turns): ...


class TestTransfer(transfer.Transfer): ...


class TestSearch(transfer.Search): ...


class TestHealth(transfer.Health): ...


class TestStoredCompletions(completions.StoredCompletions): ...


class TestSpending(usage.Spending): ...


class TestUpstreamObjects(objects.UpstreamObjects): ...


class TestLessons(lessons.Lessons): ...


class TestWithdrawing(lessons.Withdrawing): ...

"""Runs the store's contract on every adapter: all of it on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

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

pytestmark = pytest.mark.parametrize("store", ["sqlite", "postgres_url"], indirect=True)


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

"""Runs the store's contract on SQLite; another adapter does the same with a `store` of its own."""

from __future__ import annotations

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

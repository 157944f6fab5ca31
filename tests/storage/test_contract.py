"""Runs the store's contract, all of it, on every adapter, and wherever that may stand."""

from __future__ import annotations

import pytest

from tests.storage.contract import (
    activity,
    completions,
    conversations,
    lessons,
    objects,
    owners,
    responses,
    transfer,
    turns,
    usage,
)

#: PostgreSQL directly and behind a pooler, and in a database that knows no letters but ASCII's.
ADAPTERS = ("sqlite", "postgres_url", "postgres_pooled", "postgres_of_ctype_c")
each_adapter = pytest.mark.parametrize("store", ADAPTERS, indirect=True)


@each_adapter
class TestIsolation(owners.Isolation): ...


@each_adapter
class TestConversations(conversations.Conversations): ...


@each_adapter
class TestActivity(activity.Activity): ...


@each_adapter
class TestBranches(conversations.Branches): ...


@each_adapter
class TestTurns(turns.Turns): ...


@each_adapter
class TestTransfer(transfer.Transfer): ...


@each_adapter
class TestSearch(transfer.Search): ...


@each_adapter
class TestHealth(transfer.Health): ...


@each_adapter
class TestResponses(responses.Responses): ...


@each_adapter
class TestFreeTurns(responses.FreeTurns): ...


@each_adapter
class TestImportedResponses(responses.ImportedResponses): ...


@each_adapter
class TestItems(responses.Items): ...


@each_adapter
class TestStoredCompletions(completions.StoredCompletions): ...


@each_adapter
class TestSpending(usage.Spending): ...


@each_adapter
class TestUpstreamObjects(objects.UpstreamObjects): ...


@each_adapter
class TestLessons(lessons.Lessons): ...


@each_adapter
class TestWithdrawing(lessons.Withdrawing): ...

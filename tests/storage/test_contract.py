"""Runs the store's contract on every adapter: all of it on SQLite and on PostgreSQL.

What a pooler or a database's letters could break is run behind pgbouncer and in ctype C too.
"""

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

ADAPTERS = ("sqlite", "postgres_url")
each_adapter = pytest.mark.parametrize("store", ADAPTERS, indirect=True)
each_database = pytest.mark.parametrize(
    "store", [*ADAPTERS, "postgres_pooled", "postgres_of_ctype_c"], indirect=True
)


@each_adapter
class TestIsolation(owners.Isolation): ...


@each_adapter
class TestConversations(conversations.Conversations): ...


@each_database
class TestActivity(activity.Activity): ...


@each_database
class TestBranches(conversations.Branches): ...


@each_database
class TestTurns(turns.Turns): ...


@each_database
class TestTransfer(transfer.Transfer): ...


@each_database
class TestSearch(transfer.Search): ...


@each_adapter
class TestHealth(transfer.Health): ...


@each_adapter
class TestResponses(responses.Responses): ...


@each_database
class TestFreeTurns(responses.FreeTurns): ...


@each_adapter
class TestImportedResponses(responses.ImportedResponses): ...


@each_adapter
class TestItems(responses.Items): ...


@each_database
class TestStoredCompletions(completions.StoredCompletions): ...


@each_adapter
class TestSpending(usage.Spending): ...


@each_adapter
class TestUpstreamObjects(objects.UpstreamObjects): ...


@each_database
class TestLessons(lessons.Lessons): ...


@each_database
class TestWithdrawing(lessons.Withdrawing): ...

"""Runs the parts of the contract that a pooler or a database's letters could break."""

from __future__ import annotations

import pytest

from tests.storage.contract import completions, conversations, lessons, transfer, turns

pytestmark = pytest.mark.parametrize(
    "store", ["postgres_pooled", "postgres_of_ctype_c"], indirect=True
)


class TestBranches(conversations.Branches): ...


class TestTurns(turns.Turns): ...


class TestLessons(lessons.Lessons): ...


class TestWithdrawing(lessons.Withdrawing): ...


class TestTransfer(transfer.Transfer): ...


class TestSearch(transfer.Search): ...


class TestStoredCompletions(completions.StoredCompletions): ...

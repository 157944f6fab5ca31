"""Runs the store's contract on SQLite; another adapter does the same with a `store` of its own."""

from __future__ import annotations

from tests.storage import (
    contract,
    contract_completions,
    contract_objects,
    contract_owners,
    contract_spending,
    contract_turns,
    contract_whole,
)


class TestIsolation(contract_owners.Isolation): ...


class TestConversations(contract.Conversations): ...


class TestBranches(contract.Branches): ...


class TestTurns(contract_turns.Turns): ...


class TestTransfer(contract_whole.Transfer): ...


class TestSearch(contract_whole.Search): ...


class TestHealth(contract_whole.Health): ...


class TestStoredCompletions(contract_completions.StoredCompletions): ...


class TestSpending(contract_spending.Spending): ...


class TestUpstreamObjects(contract_objects.UpstreamObjects): ...

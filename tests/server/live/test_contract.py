"""Runs the contract of live turns on every adapter that there is."""

from __future__ import annotations

import pytest

from server.live.memory import MemoryLiveTurns
from tests.server.live import contract
from tests.support.fake_nodes import node_of


@pytest.fixture(params=[MemoryLiveTurns, node_of])
def make(request: pytest.FixtureRequest) -> contract.Make:
    adapter: contract.Make = request.param
    return adapter


class TestWhoIsLive(contract.WhoIsLive): ...


class TestQueue(contract.Queue): ...


class TestLines(contract.Lines): ...


class TestNotes(contract.Notes): ...


class TestListening(contract.Listening): ...

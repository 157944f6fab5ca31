"""Fixtures for tests of the core."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.app.core import core_of
from server.core.conversations import Conversations
from server.core.turns.plan import Defaults
from storage.sqlite.store import SQLiteStore
from tests.support.fakes import MODEL, Parrot


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
async def parroted(store: SQLiteStore, parrot: Parrot) -> AsyncIterator[Conversations]:
    """Conversations whose every question is answered with its own words, at once."""
    async with core_of(store, parrot, Defaults(MODEL)) as opened:
        yield opened

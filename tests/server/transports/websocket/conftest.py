"""Fixtures for tests of the websocket: a server for each test, and who is connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.core.conversations import Conversations
from tests.server.transports.websocket.websocket_client import Peer, Served, serving


@pytest.fixture
async def served(conversations: Conversations) -> AsyncIterator[Served]:
    async with serving(conversations) as server:
        yield server


@pytest.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    async with served.peer() as peer:
        yield peer

"""Fixtures for tests of REST: a server for each test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from server.core.conversations import Conversations
from tests.server.transports.rest.http_client import Served, serving


@pytest.fixture
async def served(conversations: Conversations) -> AsyncIterator[Served]:
    async with serving(conversations) as server:
        yield server


@pytest.fixture
def client(served: Served) -> httpx2.AsyncClient:
    return served.client

"""Fixtures for tests of the composition root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What is opened on it is closed when the test ends."""
    async with AsyncExitStack() as opened:
        yield opened

"""Fixtures for tests of what `/v1` stores: two keys over one upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.transports.openai.stored_objects.shared_house import House, shared_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with shared_house(tmp_path) as found:
        yield found

"""Fixtures for tests of `/v1`: a server, and the scripted upstream that it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.transports.openai.openai_client import Pair, passing


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with passing(tmp_path) as found:
        yield found

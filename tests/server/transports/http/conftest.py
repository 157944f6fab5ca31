"""Fixtures for tests of the HTTP listener: one server for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.server.transports.rest.http_client import Served, serving_anew
from tests.support.fakes import Parrot


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving_anew(tmp_path_factory.mktemp("http"), Parrot()) as server:
        yield server

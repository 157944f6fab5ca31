"""Fixtures for tests of gRPC: a server for each test, and a stub that calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.transports.grpc.grpc_client import Served, serving, stub
from tests.support.fakes import Puppet


@pytest.fixture
def puppet(upstream: Puppet) -> Puppet:
    return upstream


@pytest.fixture
async def served(tmp_path: Path, puppet: Puppet) -> AsyncIterator[Served]:
    async with serving(tmp_path, puppet) as server:
        yield server


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Any]:
    async with served.channel() as channel:
        yield stub(channel)

"""Fixtures of the tests that need whole servers, several of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.nodes import Node, nodes
from tests.support.upstream_server import ScriptedUpstream


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def three(
    tmp_path: Path, empty_postgres: str, scripted: ScriptedUpstream
) -> AsyncIterator[list[Node]]:
    """Three servers on one database."""
    async with nodes(tmp_path, empty_postgres, scripted) as running:
        yield running

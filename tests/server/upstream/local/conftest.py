"""Fixtures for tests of the upstreams that are built in."""

from __future__ import annotations

import pytest

from server.upstream.local.service import ElizaApi
from tests.server.upstream.local.openai_helpers import eliza


@pytest.fixture
def api() -> ElizaApi:
    return eliza()

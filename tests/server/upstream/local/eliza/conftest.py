"""Fixtures for tests of Eliza."""

from __future__ import annotations

import pytest

from server.upstream.local.eliza.script import Script, read
from tests.server.upstream.local.eliza_talk import MINI


@pytest.fixture(scope="module")
def mini() -> Script:
    return read(MINI)

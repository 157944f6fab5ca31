"""Fixtures for tests of storage."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database is made."""
    return tmp_path / "trialogue.db"

"""A short form of `python -m tests.crash`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash import one_round


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    dice = random.Random()
    for _ in range(2):
        found = await one_round(tmp_path, dice)
        assert found.broken == []

"""A short form of every attack of tests/torture/hostile.py: nothing is broken by it or left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.live import Fork
from tests.torture.hostile import SHORT, attacked


@pytest.mark.slow
async def test_strangers_break_nothing_and_leave_nothing(tmp_path: Path) -> None:
    async with Fork(tmp_path) as server:
        assert await attacked(server, SHORT, seed=1) == []

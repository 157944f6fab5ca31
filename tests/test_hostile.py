"""A short form of every attack of tests/hostile.py: nothing is broken by it, nothing is left."""

from __future__ import annotations

from pathlib import Path

from tests.hostile import SHORT, attacked
from tests.live import Fork


async def test_strangers_break_nothing_and_leave_nothing(tmp_path: Path) -> None:
    async with Fork(tmp_path) as server:
        assert await attacked(server, SHORT, seed=1) == []

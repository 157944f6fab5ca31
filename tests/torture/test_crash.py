"""A short form of `python -m tests.torture.crash`; each run tells its seed, which is new."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.crash import one_round


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"python -m tests.torture.crash --rounds 2 --seed {seed}")  # shown where it fails
    dice = random.Random(seed)
    for _ in range(2):
        found = await one_round(tmp_path, dice)
        assert found.broken == [], f"seed {seed}"

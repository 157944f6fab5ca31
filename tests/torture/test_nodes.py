"""The short form of the run that kills and pauses servers of one database."""

from __future__ import annotations

import random

import pytest

from tests.torture.nodes import torture


@pytest.mark.slow
async def test_nothing_promised_is_broken_while_servers_die_and_stand_still(
    empty_postgres: str,
) -> None:
    seed = random.randrange(1 << 30)
    assert await torture(empty_postgres, 15, seed) == []

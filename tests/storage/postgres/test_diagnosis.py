"""What is found of a database that only a clock can tell."""

from __future__ import annotations

import time

import pytest

from storage.postgres.address import Patience, address
from storage.postgres.diagnosis import diagnose


@pytest.mark.parametrize(
    ("ahead", "told"),
    [
        (0.0, (True, "its clock is as ours")),
        (60.2, (False, "its clock is 60 s behind ours: let both keep time by NTP")),
        (-60.2, (False, "its clock is 60 s ahead of ours: let both keep time by NTP")),
    ],
)
async def test_a_clock_that_is_far_from_ours_is_told(
    postgres_url: str, ahead: float, told: tuple[bool, str]
) -> None:
    found = await diagnose(address(postgres_url, Patience()), lambda: time.time() + ahead)
    assert found[-1] == told

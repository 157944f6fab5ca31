"""Runs `python -m tests.torture.failpoints --writes`: who forks is best alone."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_at_any_statement() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.failpoints", "--writes"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert " 0 promises broken" in done.stdout

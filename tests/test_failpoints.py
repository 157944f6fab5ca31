"""Runs `python -m tests.failpoints --writes`: a process that forks wants to be alone in its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_nothing_is_lost_at_any_statement() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.failpoints", "--writes"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert " 0 promises broken" in done.stdout

"""The browser that the page is tried in."""

from __future__ import annotations

import os
import shutil

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names that certificates of tests are for.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)


def chromium() -> str:
    """Return where Chromium is. Without one the tests are skipped, or fail where they must run."""
    found = os.environ.get("TRIALOGUE_TEST_CHROMIUM") or shutil.which("chromium")
    if found is None:
        reason = "there is no chromium on PATH, and TRIALOGUE_TEST_CHROMIUM is not set"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found

"""What npm installs for the page."""

from __future__ import annotations

import os

import pytest

from tests.support.live import ROOT


def needed() -> None:
    """Where the libraries are missing the tests are skipped, or fail where they must run."""
    if (ROOT / "clients/web/node_modules/markdown-it").exists():
        return
    reason = "bin/page-libraries has not installed what the page shows Markdown with"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

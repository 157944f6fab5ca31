"""What npm installs for the page and its tests."""

from __future__ import annotations

import os

import pytest

from tests.support.live import ROOT

LIBRARIES = ROOT / "clients/web/node_modules"


def needed() -> None:
    """Where the libraries are missing the tests are skipped, or fail where they must run."""
    if all((LIBRARIES / name).exists() for name in ("markdown-it", "axe-core", "commonmark-spec")):
        return
    reason = "bin/page-libraries --dev has not installed what the page's tests need"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

"""What a command printed."""

from __future__ import annotations

import pytest

Captured = pytest.CaptureFixture[str]

"""Which of what an upstream tells of its reading is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.openai_protocol.progress import progress_of


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"total": 1172, "cache": 172, "processed": 582, "time_ms": 9}, (410, 1000)),
        ({"total": 1172, "processed": 0}, (0, 1172)),
        ({"total": 10, "cache": 10, "processed": 10}, None),
        ({"total": 10, "cache": 0, "processed": 11}, None),
        ({"total": 10, "cache": 5, "processed": 1}, None),
        ({"total": 1 << 40, "processed": 1}, None),
        ({"total": 1e308, "processed": 1e307}, None),
        ({"total": -1, "processed": -2}, None),
        ({"total": "10", "processed": True}, None),
        ([10, 5], None),
        (None, None),
    ],
    ids=json.dumps,
)
def test_only_numbers_that_can_be_are_believed(said: Any, told: tuple[int, int] | None) -> None:
    assert progress_of({"prompt_progress": said}) == told

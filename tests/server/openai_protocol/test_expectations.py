"""What a call wants of its stream, read from its body."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from server.openai_protocol.expectations import Expectations, expectations_of


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": []}, Expectations()),
        ({"messages": [], "n": 3}, Expectations(3)),
        (
            {"messages": [], "n": None, "stream_options": {"include_usage": True}},
            Expectations(1, True),
        ),
        ({"messages": [], "n": 2, "stream_options": {"include_usage": False}}, Expectations(2)),
        ({"messages": [], "n": "two", "stream_options": 5}, Expectations()),
        ({"messages": [], "n": math.nan}, Expectations()),
        ({"messages": [], "n": math.inf}, Expectations()),
        ({"messages": [], "n": 10**400}, Expectations(10**400)),
        ({"messages": [], "n": 2, "prompt": ["a", "b"]}, Expectations(2)),
        ({"prompt": ["a", "b", "c"], "n": 2}, Expectations(6)),
        ({"prompt": [[1, 2], [3]]}, Expectations(2)),
        ({"prompt": [1, 2, 3]}, Expectations()),
        ({"prompt": "a"}, Expectations()),
        ({"prompt": []}, Expectations()),
    ],
)
def test_choices_and_usage(body: dict[str, Any], expected: Expectations) -> None:
    path = "/chat/completions" if "messages" in body else "/completions"
    assert expectations_of(path, json.dumps(body).encode()) == expected


@pytest.mark.parametrize("body", [b"", b'["n"]', b'{"n":', b'"include_usage"'])
def test_what_is_no_object_wants_one_choice(body: bytes) -> None:
    assert expectations_of("/x", body) == Expectations()

"""What a call wants of its stream, read from its body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.openai_protocol.expectations import Wish, wish_of
from server.upstream.port import Call


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        ({"messages": []}, Wish()),
        ({"messages": [], "n": 3}, Wish(3)),
        ({"messages": [], "n": None, "stream_options": {"include_usage": True}}, Wish(1, True)),
        ({"messages": [], "n": 2, "stream_options": {"include_usage": False}}, Wish(2)),
        ({"messages": [], "n": "two", "stream_options": 5}, Wish()),
        ({"messages": [], "n": 2, "prompt": ["a", "b"]}, Wish(2)),
        ({"prompt": ["a", "b", "c"], "n": 2}, Wish(6)),
        ({"prompt": [[1, 2], [3]]}, Wish(2)),
        ({"prompt": [1, 2, 3]}, Wish()),
        ({"prompt": "a"}, Wish()),
        ({"prompt": []}, Wish()),
    ],
)
def test_choices_and_usage(body: dict[str, Any], wish: Wish) -> None:
    path = "/chat/completions" if "messages" in body else "/completions"
    assert wish_of(Call("POST", path, body=json.dumps(body).encode())) == wish


@pytest.mark.parametrize("body", [b"", b'["n"]', b'{"n":', b'"include_usage"'])
def test_what_is_no_object_wants_one_choice(body: bytes) -> None:
    assert wish_of(Call("POST", "/x", body=body)) == Wish()

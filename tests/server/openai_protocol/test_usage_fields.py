"""What is believed of the tokens that an upstream says an answer took."""

from __future__ import annotations

from typing import Any

import pytest

from server.openai_protocol.usage_fields import MOST_TOKENS, total_of, usage_of
from storage.model import Usage


def told(prompt: Any, completion: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def test_usage_is_what_is_told() -> None:
    assert usage_of(told(3, 4)) == Usage(3, 4)
    assert total_of(told(3, 4)) == 7
    assert total_of({"input_tokens": 5, "output_tokens": 6}) == 11
    assert total_of(told(3, 4) | {"total_tokens": 9}) == 9


@pytest.mark.parametrize(
    "odd", [-1, True, 1.0, float("nan"), "1", None, [], MOST_TOKENS + 1, 1 << 63, 10**400]
)
def test_what_cannot_be_true_is_not_told(odd: object) -> None:
    assert usage_of(told(odd, 1)) is None
    assert usage_of(told(1, odd)) is None
    assert total_of(told(odd, 1)) == 1
    assert total_of({"total_tokens": odd}) == 0


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, {"prompt_tokens": 1}])
def test_what_is_no_usage(odd: object) -> None:
    assert usage_of(odd) is None

"""What other servers' words for an answer's end mean."""

from __future__ import annotations

import pytest

from server.openai_protocol.codec import MalformedError
from server.openai_protocol.finish_reason import ending


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((word, word) for word in ("stop", "length", "tool_calls", "content_filter")),
        *((word, None) for word in (None, "", False, "null", "None")),
        *((word, "length") for word in ("max_tokens", "MAX_TOKENS", "model_length", "LENGTH")),
        *((word, "content_filter") for word in ("safety", "SAFETY", "recitation")),
        ("tool_use", "tool_calls"),
        *((word, "theirs") for word in ("eos", "end_turn")),
    ],
)
def test_a_word_is_put_in_openais(theirs: object, ours: str | None) -> None:
    assert ending(theirs, "theirs") == ours


@pytest.mark.parametrize("told", ["error", "ABORT", "cancelled", "timeout", 7, True, ["stop"]])
def test_a_break_is_no_end(told: object) -> None:
    with pytest.raises(MalformedError):
        ending(told)

"""Refusals for length, as servers word them, and refusals that are about something else."""

from __future__ import annotations

from typing import Any

import pytest

from server.openai_protocol.errors import shaped
from server.openai_protocol.overflow import Overflow, overflow_of
from server.upstream.remote.redaction import Redactor

LLAMA = {
    "code": 400,
    "message": "request (720 tokens) exceeds the available context size (512 tokens), try "
    "increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 720,
    "n_ctx": 512,
}
SAID = {
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 "
    "tokens. Please reduce the length of the messages.": (9001, 8192),
    "This model's maximum context length is 4097 tokens. However, you requested 4149 tokens (3549 "
    "in the messages, 600 in the completion).": (3549, 4097),
    "This model's maximum context length is 2048 tokens. However, your request has 2500 input "
    "tokens. Please reduce the length of the input messages.": (2500, 2048),
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.": (
        5000,
        4096,
    ),
    "prompt is too long: 210000 tokens > 200000 maximum": (210000, 200000),
    "Prompt contains 40000 tokens, too large for model with 32768 maximum context length": (
        40000,
        32768,
    ),
    "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1900 `inputs` tokens and 200 "
    "`max_new_tokens`": (1900, 2048),
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).": (
        1200000,
        1048576,
    ),
    "Trying to keep the first 4800 tokens when context the overflows. However, the model is loaded "
    "with context length of only 4096 tokens": (4800, 4096),
    "the request exceeds the available context size. try increasing the context size": (None, None),
    "Your input exceeds the context window of this model.": (None, None),
}


@pytest.mark.parametrize(("message", "numbers"), SAID.items())
def test_its_numbers_are_read(message: str, numbers: tuple[int | None, int | None]) -> None:
    assert overflow_of({"message": message}) == Overflow(*numbers)
    assert overflow_of({"error": {"message": message}}) == Overflow(*numbers)


def test_llama_cpp_tells_them_apart() -> None:
    assert overflow_of(LLAMA) == Overflow(720, 512)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "max_tokens is too large: 5000. This model supports at most 4096 tokens."},
        {"message": "Rate limit reached: 40000 tokens per minute", "code": "rate_limit_exceeded"},
        {"message": "Conversation roles must alternate user/assistant/user/assistant/..."},
        {"message": "", "code": "content_filter"},
        "exceeds",
        None,
    ],
)
def test_what_is_about_something_else(error: Any) -> None:
    assert overflow_of(error) is None


def test_a_client_of_openai_s_is_told_in_openai_s_words() -> None:
    told = shaped(LLAMA, Redactor(None, ""), 400)
    assert told["code"] == "context_length_exceeded"
    assert (told["type"], told["param"]) == ("invalid_request_error", "messages")
    assert told["message"].startswith(
        "This model's maximum context length is 512 tokens. However, your messages resulted in 720"
    )

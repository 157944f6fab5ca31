"""An upstream that has no completions, and answers chats in their place."""

from __future__ import annotations

import json
from typing import Any

from openai.types import Completion

from tests.support.upstream_script import (
    Behaviour,
    document,
    fail,
)

#: what OpenAI says where a model takes messages alone
CHAT_ONLY = fail(
    404,
    "This is a chat model and not supported in the v1/completions endpoint.",
    param="model",
)


def chat(*texts: str, **more: Any) -> Behaviour:
    """Answer with these choices, all at once."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
            **more,
        }
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return document({"choices": choices, "usage": usage})


def checked(body: bytes) -> dict[str, Any]:
    made = json.loads(body)
    Completion.model_validate(made, strict=True)
    assert isinstance(made, dict)
    return made

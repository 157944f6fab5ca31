"""A conversation as our own export writes it."""

from __future__ import annotations

from typing import Any

TIME = "2024-05-01T10:00:00.000007Z"


MICROS = 1_714_557_600_000_007


MESSAGES: list[dict[str, Any]] = [
    {
        "id": "q",
        "parent_id": None,
        "role": "user",
        "content": "Why?",
        "tokens": 2,
        "encoding": "cl100k_base",
        "model": None,
        "turn_id": "t",
        "created_at": TIME,
    },
    {
        "id": "a",
        "parent_id": "q",
        "role": "assistant",
        "content": [{"type": "text", "text": "So."}],
        "tokens": 3,
        "encoding": "cl100k_base",
        "model": "gpt-4",
        "turn_id": "t",
        "created_at": TIME,
    },
]


TURN: dict[str, Any] = {
    "id": "t",
    "status": "failed",
    "model": "gpt-4",
    "parent_id": None,
    "question_id": "q",
    "answer_id": "a",
    "answer": "So.",
    "finish_reason": "length",
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    "context": {
        "window": 100,
        "budget": 80,
        "prompt_tokens": 9,
        "messages_included": 1,
        "messages_trimmed": 0,
        "drift": -2,
    },
    "error": {"code": "upstream_rejected", "message": "No.", "status": 403},
    "created_at": TIME,
    "ended_at": TIME,
}


CONVERSATION: dict[str, Any] = {
    "id": "c",
    "title": "Reasons",
    "system_prompt": "Be brief.",
    "model": None,
    "metadata": {"a": [1, 2.5, None]},
    "truncation": "summarize",
    "created_at": TIME,
    "updated_at": TIME,
    "message_count": 2,
    "head_id": "a",
    "turns": [TURN],
    "messages": MESSAGES,
}

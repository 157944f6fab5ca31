"""The rules of the strictest chat templates, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage.model import PromptMessage, Role


def check_strictest(told: Sequence[PromptMessage]) -> None:
    """Raise where any of Gemma's, Mistral's, Llama's and Qwen's templates would."""
    rest = list(told[1:] if told and told[0].role is Role.SYSTEM else told)
    assert all(one.role is not Role.SYSTEM for one in rest), "system must be at the beginning"
    plain = [one for one in rest if one.role is not Role.TOOL and not _calls(one)]
    roles = [one.role for one in plain]
    assert roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2) + [Role.USER] * (len(roles) % 2)
    assert not rest or rest[0].role is Role.USER
    waiting: set[Any] = set()
    for one in rest:
        if one.role is Role.TOOL:
            waiting.remove(one.content[0]["tool_call_id"])  # type: ignore[index]
            continue
        assert not waiting, "a call has no answer"
        waiting = {call["id"] for call in _calls(one)}
    assert not waiting


def _calls(one: PromptMessage) -> list[Mapping[str, Any]]:
    if one.role is not Role.ASSISTANT or isinstance(one.content, str):
        return []
    return [part for part in one.content if part["type"] == "function"]

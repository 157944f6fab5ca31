"""Conversations that came of a file, whatever that said."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.support.live import Served

_TIME = "2026-01-02T03:04:05Z"


async def imported(served: Served, conversation_id: str, *parts: dict[str, Any]) -> None:
    """Import a conversation of a question and an answer of these parts."""
    question = {"id": f"q-{conversation_id}", "parent_id": None, "role": "user", "content": "How?"}
    answer = {"id": f"a-{conversation_id}", "parent_id": question["id"], "role": "assistant"}
    messages = [
        {"created_at": _TIME, "conversation_id": conversation_id, **one}
        for one in (question, {**answer, "content": list(parts)})
    ]
    times = {"created_at": _TIME, "updated_at": _TIME}
    one = {"id": conversation_id, "head_id": answer["id"], "messages": messages, **times}
    one |= {"title": "Of a file", "turns": []}
    file = {"format": "trialogue", "version": 1, "conversations": [one]}
    async with httpx2.AsyncClient(base_url=served.http) as client:
        told = (await client.post("/conversations/import", json=file)).json()
    assert told["imported"] == 1, told

"""What tests say again and again of a client that joins a conversation."""

from __future__ import annotations

from typing import Any

from server.core.access.auth import EVERYONE
from tests.server.transports.openai.openai_client import Pair, Served
from tests.support.upstream_script import MODEL, Behaviour, say
from tests.support.upstream_server import ScriptedUpstream

IN = {"x-conversation-id": "demo"}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


async def asked(
    pair: Pair, answer: str | Behaviour, *messages: dict[str, Any], **given: Any
) -> Any:
    """Ask in the conversation `demo`, and have the upstream answer so."""
    served, upstream = pair
    upstream.script(say(answer) if isinstance(answer, str) else answer)
    body = {"model": MODEL, "messages": list(messages), **given}
    response = await served.client.post("/v1/chat/completions", json=body, headers=IN)
    assert response.status_code == 200, response.text
    assert response.headers["x-conversation-id"] == "demo"
    return response


async def kept(served: Served) -> list[tuple[str, Any]]:
    page = await served.conversations.messages(EVERYONE, "demo")
    return [(message.role.value, message.content) for message in page.items]


def sent(upstream: ScriptedUpstream) -> list[Any]:
    """Return the messages that the upstream was sent last."""
    messages: list[Any] = upstream.requests[-1].body["messages"]
    return messages

"""A line for each conversation in the shape that OpenAI's fine-tuning takes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from server.core.archive import pages
from storage.model import Content, Conversation, Role
from storage.port import Store


async def write(
    store: Store, owner: str, conversations: AsyncIterator[Conversation]
) -> AsyncIterator[bytes]:
    """Yield the branch that ends in each head, under the system prompt.

    What tools said is left out, and a conversation in which nobody else said anything.
    """
    async for conversation in conversations:
        prompt = conversation.system_prompt
        before = b'{"messages":[' + (_line(Role.SYSTEM, prompt) + b"," if prompt else b"")
        begun = False
        async for message in pages.branch(store, owner, conversation):
            if message.role is not Role.TOOL:
                yield (b"," if begun else before) + _line(message.role, message.content)
                begun = True
        if begun:
            yield b"]}\n"


def _line(role: Role, content: Content) -> bytes:
    told = content if isinstance(content, str) else [dict(part) for part in content]
    return json.dumps({"role": role.value, "content": told}, ensure_ascii=False).encode()

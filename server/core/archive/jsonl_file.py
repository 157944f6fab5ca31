"""A line for each conversation in the shape that OpenAI's fine-tuning takes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from server.core.archive import pages
from server.core.prompt.pairs import spoken
from server.openai_protocol.messages import is_answer_to_a_call, message_of
from storage.model import Content, Conversation, PromptMessage, Role
from storage.port import Store


async def write(
    store: Store, owner: str, conversations: AsyncIterator[Conversation]
) -> AsyncIterator[bytes]:
    """Yield the branch that ends in each head, under the system prompt.

    What a tool said that answers no call is left out, and a conversation of nothing else.
    """
    async for conversation in conversations:
        prompt = conversation.system_prompt
        before = b'{"messages":[' + (_line(Role.SYSTEM, prompt) + b"," if prompt else b"")
        begun = False
        async for message in pages.branch(store, owner, conversation):
            if message.role is not Role.TOOL or is_answer_to_a_call(message.content):
                yield (b"," if begun else before) + _line(message.role, spoken(message.content))
                begun = True
        if begun:
            yield b"]}\n"


def _line(role: Role, content: Content) -> bytes:
    told = message_of(PromptMessage(role, content))
    return json.dumps(told, ensure_ascii=False, default=dict).encode()

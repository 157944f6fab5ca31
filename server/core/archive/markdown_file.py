"""Conversations for reading: a heading for each, and one for whoever speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from server.core.archive import pages
from storage.model import Content, Conversation, Message
from storage.port import Store


async def write(
    store: Store, owner: str, conversations: AsyncIterator[Conversation]
) -> AsyncIterator[bytes]:
    """Yield the branch that ends in each head."""
    rule = ""
    async for conversation in conversations:
        yield (rule + _heading(conversation)).encode()
        rule = "\n---\n\n"
        async for message in pages.branch(store, owner, conversation):
            yield _said(message, conversation).encode()


def _heading(of: Conversation) -> str:
    title = " ".join(of.title.split()) or of.id
    when = datetime.fromtimestamp(of.created_at // 1_000_000, UTC)
    about = " · ".join(filter(None, (f"{when:%Y-%m-%d %H:%M} UTC", of.model)))
    prompt = f"\n## System\n\n{of.system_prompt}\n" if of.system_prompt else ""
    return f"# {title}\n\n*{about}*\n{prompt}"


def _said(message: Message, of: Conversation) -> str:
    model = f" ({message.model})" if message.model and message.model != of.model else ""
    text = "\n\n".join(_paragraphs(message.content))
    return f"\n## {message.role.value.capitalize()}{model}\n\n{text}\n"


def _paragraphs(content: Content) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                yield text
            case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith("http"):
                yield f"![image]({url})"
            case {"type": "refusal", "refusal": str(refusal)}:
                yield refusal
            case {"type": "function" | "custom" as kind} if isinstance(part.get(kind), Mapping):
                yield from _called(part[kind])
            case {"type": "reasoning", "text": str(thought)}:
                yield "\n".join(f"> {line}" for line in thought.splitlines())
            case {"type": "tool_result", "text": str(result)}:
                yield _block(result)
            case _:
                yield f"*({part.get('type')})*"


def _called(call: Mapping[str, Any]) -> Iterator[str]:
    """Yield a call's name, and what it is called with as a block of code."""
    yield f"*calls {call.get('name')}*"
    given = str(call.get("arguments") or call.get("input") or "")
    if given:
        yield _block(given)


def _block(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())

"""Writes an owner's conversations to a file, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from server.core.archive import json_file, jsonl_file, markdown_file, pages
from server.core.errors import InvalidRequestError
from server.core.ids import check_id
from storage.model import Conversation
from storage.port import Store

FORMATS = {
    "json": json_file.write,
    "jsonl": jsonl_file.write,
    "markdown": markdown_file.write,
}


async def write(
    store: Store,
    owner: str,
    format: str,  # noqa: A002 - the caller's word for it
    conversation_id: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield one conversation, or all of an owner's, oldest first, as a file of a format.

    `progress` is told after each how many have been written. Before the first byte it raises
    InvalidRequestError for a format that there is not, NotFoundError for the conversation.
    """
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise InvalidRequestError(f"format must be one of {known}.", "format")
    chosen = _all(store, owner)
    if conversation_id is not None:
        check_id(conversation_id, "conversation_id")
        chosen = _one(await store.conversation(owner, conversation_id))
    async for piece in FORMATS[format](store, owner, _told(chosen, progress)):
        yield piece


def _all(store: Store, owner: str) -> AsyncIterator[Conversation]:
    return pages.conversations(store, owner)


async def _one(conversation: Conversation) -> AsyncIterator[Conversation]:
    yield conversation


async def _told(
    conversations: AsyncIterator[Conversation], progress: Callable[[int], None] | None
) -> AsyncIterator[Conversation]:
    written = 0
    async for conversation in conversations:
        yield conversation
        written += 1
        if progress is not None:
            progress(written)

"""Reads a conversation out of the store a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from storage.model import Conversation, Message, Turn
from storage.port import NotFoundError, Store

#: Messages, turns or conversations that are held at a time.
PAGE = 500

T = TypeVar("T", Message, Turn)


async def conversations(store: Store, owner: str) -> AsyncIterator[Conversation]:
    """Yield an owner's conversations, oldest first; only their ids are held."""
    ids: list[str] = []
    more = True
    while more:
        page = await store.conversations(owner, limit=PAGE, after=ids[-1] if ids else None)
        ids += [conversation.id for conversation in page.items]
        more = page.has_more
    for id_ in reversed(ids):
        try:
            conversation = await store.conversation(owner, id_)
        except NotFoundError:
            continue  # deleted since
        yield conversation


async def messages(
    store: Store, owner: str, conversation_id: str
) -> AsyncIterator[Sequence[Message]]:
    """Yield the messages of all branches in pages, a parent before its children."""

    async def after(last: str | None) -> Sequence[Message]:
        return await store.every_message(owner, conversation_id, after=last, limit=PAGE)

    async for page in _pages(after):
        yield page


async def turns(store: Store, owner: str, conversation_id: str) -> AsyncIterator[Sequence[Turn]]:
    """Yield the turns in pages, in the order in which they were begun."""

    async def after(last: str | None) -> Sequence[Turn]:
        return await store.every_turn(owner, conversation_id, after=last, limit=PAGE)

    async for page in _pages(after):
        yield page


async def branch(store: Store, owner: str, of: Conversation) -> AsyncIterator[Message]:
    """Yield the branch that ends in the head, oldest first.

    The store walks up from a leaf: one way up finds where each page ends, the way down reads them.
    """
    leaves: list[str] = []
    leaf = of.head_id
    page: Sequence[Message] = ()
    try:
        while leaf is not None:
            leaves.append(leaf)
            page = await store.branch(owner, of.id, leaf, limit=PAGE)
            leaf = page[-1].parent_id
        while leaves:
            for message in reversed(page):
                yield message
            leaves.pop()
            page = await store.branch(owner, of.id, leaves[-1], limit=PAGE) if leaves else ()
    except NotFoundError:
        return  # deleted since


async def _pages(
    after: Callable[[str | None], Awaitable[Sequence[T]]],
) -> AsyncIterator[Sequence[T]]:
    last: str | None = None
    while True:
        try:
            page = await after(last)
        except NotFoundError:
            return  # deleted since
        if page:
            yield page
            last = page[-1].id
        if len(page) < PAGE:
            return

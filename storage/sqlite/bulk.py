"""Imports and deletions of the SQLite store, in steps that let other writers in between."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from storage.model import Conversation, Message, Turn
from storage.port import AlreadyExistsError
from storage.portions import check_distinct, steps
from storage.sqlite import conversations, transfer
from storage.sqlite.conversations import NOBODY, STEP_CHARACTERS, STEP_ROWS
from storage.sqlite.transfer import Item
from storage.undoing import made_or_undone

T = TypeVar("T")
#: How many ids are looked up at a time.
LOOKED_UP_AT_ONCE = 1_000


class StepRun(Protocol):
    """Runs a function of the connection, in a transaction."""

    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> Coroutine[Any, Any, T]: ...


class Bulk:
    """Puts and purges whole conversations.

    What is not whole yet, or not any more, belongs to nobody (`conversations.NOBODY`); where
    the process dies in between, the next start finds it and purges it.
    """

    def __init__(self, step: StepRun, read: StepRun) -> None:
        self._step = step
        self._read = read
        self._closing = False
        self._purges: dict[int, asyncio.Task[None]] = {}
        self._lines: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Stop purging after the step that is being taken."""
        self._closing = True
        await asyncio.gather(*self._purges.values(), return_exceptions=True)

    def purge(self, key: int) -> asyncio.Task[None]:
        """Delete what is hidden already; it goes on when nobody waits for it any more."""
        task = asyncio.create_task(self._purge(key), name="purge")
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._purges[key] = task
        return task

    async def delete(self, hide: Coroutine[Any, Any, int]) -> None:
        """Hide and purge; once it is hidden the deletion is true, whatever becomes of the purge."""
        key = await made_or_undone(hide, self.purge)
        await asyncio.wait([self.purge(key)])

    async def _purge(self, key: int) -> None:
        while not self._closing and await self._step(lambda c: conversations.purge(c, key)):
            pass
        self._purges.pop(key, None)

    async def _purged(self) -> None:
        """Wait until what is hidden is gone: until then its ids are taken."""
        for key, task in list(self._purges.items()):
            # One that has ended and is still here has failed: the database was away.
            await asyncio.shield(self.purge(key) if task.done() else task)

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        """Keep what is not there yet of a conversation (see port.py); one after another of an id.

        One that is new is hidden until its last step; if it fails or its caller is cancelled, it
        is purged.
        """
        check_distinct(messages)
        check_distinct(turns)
        line = self._lines.setdefault((owner, conversation.id), asyncio.Lock())
        async with line:
            try:
                return await self._put(owner, conversation, messages, turns)
            except AlreadyExistsError:
                if not self._purges:
                    raise
                await self._purged()
                return await self._put(owner, conversation, messages, turns)

    async def _put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        if len(steps(messages, turns, STEP_ROWS, STEP_CHARACTERS)) == 1:
            return await self._step(lambda c: transfer.put(c, owner, conversation, messages, turns))
        return await self._put_in_steps(owner, conversation, messages, turns)

    async def _put_in_steps(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        key = await self._read(lambda c: transfer.find(c, owner, conversation.id))
        new_messages: Sequence[Message] = await self._absent("messages", owner, key, messages)
        new_turns: Sequence[Turn] = await self._absent("turns", owner, key, turns)
        if key is None and await self._put_hidden(owner, conversation, new_messages, new_turns):
            return True
        return await self._put_beside(owner, conversation, new_messages, new_turns)

    async def _absent(
        self, table: str, owner: str, key: int | None, items: Sequence[Item]
    ) -> Sequence[Item]:
        """Look up what is not there yet, on a connection that reads."""
        found: list[Item] = []
        for start in range(0, len(items), LOOKED_UP_AT_ONCE):
            part = items[start : start + LOOKED_UP_AT_ONCE]
            found += await self._read(
                partial(transfer.absent, table=table, owner=owner, key=key, items=part)
            )
        return found

    async def _put_hidden(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        """Keep a new conversation; False, and nothing kept, where one of its id was made meanwhile.

        A crash before the last step leaves it hidden, and the next start purges it.
        """
        make = self._step(lambda c: transfer.make_hidden(c, conversation))
        key = await made_or_undone(make, self.purge)
        try:
            await self._add(owner, key, NOBODY, conversation.head_id, messages, turns)
            shown = await self._step(lambda c: transfer.show(c, owner, key, conversation.id))
        except BaseException:
            self.purge(key)  # which leaves alone what was shown after all
            raise
        if not shown:
            await asyncio.shield(self.purge(key))
        return shown

    async def _put_beside(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        """Add to a conversation that is there, each step whole for who reads it meanwhile."""
        key = await self._read(lambda c: conversations.conversation_key(c, owner, conversation.id))
        return await self._add(owner, key, owner, conversation.head_id, messages, turns)

    async def _add(
        self,
        owner: str,
        key: int,
        holder: str,
        head_id: str | None,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        add = partial(transfer.add, owner=owner, key=key, holder=holder)
        added = False
        all_steps = steps(messages, turns, STEP_ROWS, STEP_CHARACTERS)
        for place, (said, begun) in enumerate(all_steps, start=1):
            head = head_id if place == len(all_steps) else None
            added |= await self._step(partial(add, head_id=head, messages=said, turns=begun))
        return added

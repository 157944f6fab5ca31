"""The store on SQLite: one connection that does all writes and checkpoints, a few that read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from types import EllipsisType
from typing import Any, TypeVar

from storage import rows
from storage.model import (
    Completion,
    CompletionQuery,
    Content,
    Conversation,
    Hit,
    Lesson,
    Message,
    Order,
    Page,
    Query,
    Turn,
    UpstreamObject,
)
from storage.port import Claim, Outcome, Piece, UnavailableError
from storage.portions import portions
from storage.sqlite import (
    completions,
    conversations,
    lessons,
    messages,
    transfer,
    turns,
    upstream_objects,
    usage,
)
from storage.sqlite.bulk import Bulk
from storage.sqlite.file_identity import Presence
from storage.sqlite.files import room
from storage.sqlite.fulltext import search
from storage.sqlite.group_commit import GroupCommit, WriteConnection, at_one_moment, renamed
from storage.sqlite.integrity import check
from storage.sqlite.opening import DatabaseInUseError, Lock, make, opened, reader, writer
from storage.sqlite.withdraw import withdraw

T = TypeVar("T")

#: SQLite corrupts a WAL before this release when two connections write or checkpoint at once
#: (sqlite.org/wal.html#walresetbug); ours never do, and a lock keeps other processes out.
SAFE_VERSION = (3, 51, 3)
READERS = 2
#: How many answers are checkpointed in one transaction.
PIECES_AT_ONCE = 200
#: Bytes without which the next question may not be kept, though a smaller write would be.
LEAST_ROOM = 1 << 20

__all__ = ["SAFE_VERSION", "DatabaseInUseError", "SQLiteStore"]


class SQLiteStore:
    """A Store (see port.py) in one SQLite file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> SQLiteStore:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(make, self.path.resolve())
            stack.enter_context(Lock(self.path))
            await asyncio.to_thread(check, self.path.resolve())
            # Opened first, closed last: only this connection ever checkpoints.
            writing = await stack.enter_async_context(opened(self.path, writer))
            presence = Presence(self.path)
            self._writer = GroupCommit(writing, presence.check)
            stack.push_async_callback(self._writer.close)
            readers = [
                await stack.enter_async_context(opened(self.path, reader)) for _ in range(READERS)
            ]
            self._readers = cycle(readers)
            stack.push_async_callback(self._leave, writing, presence)
            self._bulk = Bulk(self._writer.step, self._read)
            stack.push_async_callback(self._bulk.close)
            for key in await self._read(conversations.hidden):
                self._bulk.purge(key)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def close(self) -> None:
        """Commit what waits and close every connection."""
        await self._stack.aclose()

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    async def _leave(self, writing: WriteConnection, presence: Presence) -> None:
        """Close the writer first where its file is gone: whoever closes last, if it can write,
        deletes the log by its name, and that may be another server's by now.
        """
        if presence.gone:
            await self._writer.close()
            await writing.close()

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await next(self._readers).run(partial(at_one_moment, work=work))
        except Exception as error:
            known = renamed(error)
            if known is error:
                raise
            self._writer.distrust(error)
            raise known from error

    # Conversations

    async def create(self, owner: str, conversation: Conversation) -> Conversation:
        return await self._writer.write(lambda c: conversations.create(c, owner, conversation))

    async def conversation(self, owner: str, conversation_id: str) -> Conversation:
        return await self._read(lambda c: conversations.conversation(c, owner, conversation_id))

    async def conversations(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        q: str | None = None,
        order: Order = Order.CREATED,
    ) -> Page[Conversation]:
        return await self._read(lambda c: conversations.page(c, owner, limit, after, q, order))

    async def update(
        self, owner: str, conversation_id: str, changes: Mapping[str, Any], now: int
    ) -> Conversation:
        return await self._writer.write(
            lambda c: conversations.update(c, owner, conversation_id, changes, now)
        )

    async def delete(self, owner: str, conversation_id: str) -> None:
        hide = self._writer.write(lambda c: conversations.hide(c, owner, conversation_id))
        await self._bulk.delete(hide)

    async def every_message(
        self, owner: str, conversation_id: str, *, after: str | None, limit: int
    ) -> Sequence[Message]:
        return await self._read(
            lambda c: transfer.every_message(c, owner, conversation_id, after, limit)
        )

    async def every_turn(
        self, owner: str, conversation_id: str, *, after: str | None, limit: int
    ) -> Sequence[Turn]:
        return await self._read(
            lambda c: transfer.every_turn(c, owner, conversation_id, after, limit)
        )

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        return await self._bulk.put(owner, conversation, messages, turns)

    # Messages

    async def message(self, owner: str, conversation_id: str, message_id: str) -> Message:
        return await self._read(lambda c: messages.message(c, owner, conversation_id, message_id))

    async def branch(
        self,
        owner: str,
        conversation_id: str,
        leaf_id: str | None,
        *,
        limit: int,
        tokens: int | None = None,
    ) -> Sequence[Message]:
        if leaf_id is None:
            return []
        return await self._read(
            lambda c: messages.branch(c, owner, conversation_id, leaf_id, limit, tokens)
        )

    async def siblings(
        self, owner: str, conversation_id: str, parent_ids: Sequence[str | None]
    ) -> Mapping[str | None, Sequence[str]]:
        return await self._read(lambda c: messages.siblings(c, owner, conversation_id, parent_ids))

    async def search(
        self, owner: str, query: Query, *, limit: int, after: str | None = None
    ) -> Page[Hit]:
        return await self._read(lambda c: search.find(c, owner, query, limit, after))

    async def summarise(self, owner: str, summary: Message) -> Message:
        def write(connection: sqlite3.Connection) -> Message:
            key = conversations.conversation_key(connection, owner, summary.conversation_id)
            conversations.insert_message(connection, owner, key, summary)
            return summary

        return await self._writer.write(write)

    async def summaries(self, owner: str, conversation_id: str, *, limit: int) -> Sequence[Message]:
        return await self._read(lambda c: messages.summaries(c, owner, conversation_id, limit))

    # Turns

    async def claimed(self, owner: str, claim: Claim) -> str | None:
        def read(connection: sqlite3.Connection) -> str | None:
            return turns.claimed(connection, owner, claim)

        return await self._read(read)

    async def begin(
        self,
        owner: str,
        turn: Turn,
        question: Message | None,
        *,
        conversation: Conversation | None = None,
        title: str = "",
        claim: Claim | None = None,
        before: Sequence[Message] = (),
        head: str | EllipsisType | None = ...,
        waiting: str | None = None,
    ) -> Turn:
        return await self._writer.write(
            lambda c: turns.begin(
                c, owner, turn, question, conversation, title, claim, before, head
            )
        )

    async def checkpoint(self, pieces: Sequence[Piece]) -> None:
        for part in portions(pieces, PIECES_AT_ONCE, conversations.STEP_CHARACTERS):
            await self._writer.write(partial(turns.checkpoint, pieces=part))

    async def end(self, owner: str, turn_id: str, outcome: Outcome) -> Turn:
        return await self._writer.write(lambda c: turns.end(c, owner, turn_id, outcome))

    async def turn(self, owner: str, turn_id: str) -> Turn:
        return await self._read(lambda c: turns.turn(c, owner, turn_id))

    async def failed(self, owner: str, turn_ids: Collection[str]) -> Collection[str]:
        return await self._read(lambda c: turns.failed(c, owner, turn_ids))

    async def withdraw(
        self, owner: str, turn_id: str, *, head_id: str | None = None, title: str = ""
    ) -> None:
        await self._writer.write(lambda c: withdraw(c, owner, turn_id, head_id, title))

    async def lessons(self) -> Sequence[Lesson]:
        return await self._read(lessons.lessons)

    async def learn(self, lesson: Lesson) -> None:
        await self._writer.write(lambda c: lessons.learn(c, lesson))

    async def next_turn(self, owner: str, conversation_id: str, after: str | None) -> Turn | None:
        return await self._read(lambda c: turns.next_turn(c, owner, conversation_id, after))

    async def last_turn(self, owner: str, conversation_id: str) -> Turn | None:
        def read(connection: sqlite3.Connection) -> Turn | None:
            key = conversations.conversation_key(connection, owner, conversation_id)
            row = connection.execute(
                f"{turns.TURN} WHERE t.conversation = ? ORDER BY t.key DESC LIMIT 1", (key,)
            ).fetchone()
            return row and rows.turn(row)

        return await self._read(read)

    async def running(self) -> Sequence[tuple[str, Turn]]:
        return await self._read(turns.running)

    async def orphans(self) -> Sequence[tuple[str, Turn]]:
        return await self.running()  # one process has the file, and this is before it begins any

    # Responses

    async def delete_response(self, owner: str, turn_id: str) -> str | None:
        return await self._writer.write(lambda c: turns.delete_response(c, owner, turn_id))

    async def expired(self, before: int, *, limit: int) -> Sequence[tuple[str, str]]:
        return await self._read(lambda c: conversations.expired(c, before, limit))

    async def append(
        self, owner: str, conversation_id: str, said: Sequence[Message], *, title: str, now: int
    ) -> None:
        await self._writer.write(
            lambda c: conversations.append(c, owner, conversation_id, said, title, now)
        )

    async def downwards(
        self, owner: str, conversation_id: str, leaf_id: str, *, below: int, limit: int
    ) -> Sequence[Message]:
        return await self._read(
            lambda c: messages.downwards(c, owner, conversation_id, leaf_id, below, limit)
        )

    async def rewrite(
        self, owner: str, conversation_id: str, message_id: str, content: Content, tokens: int
    ) -> None:
        await self._writer.write(
            lambda c: conversations.rewrite(c, owner, conversation_id, message_id, content, tokens)
        )

    async def find_message(self, owner: str, message_id: str) -> Message:
        return await self._read(lambda c: messages.find(c, owner, message_id))

    # Completions

    async def keep_completion(self, owner: str, completion: Completion) -> None:
        await self._writer.write(lambda c: completions.keep(c, owner, completion))

    async def completion(self, owner: str, completion_id: str) -> Completion:
        return await self._read(lambda c: completions.find(c, owner, completion_id))

    async def completions(
        self, owner: str, wanted: CompletionQuery, *, limit: int, after: str | None = None
    ) -> Page[Completion]:
        return await self._read(lambda c: completions.page(c, owner, wanted, limit, after))

    async def tag_completion(
        self, owner: str, completion_id: str, metadata: Mapping[str, str]
    ) -> Completion:
        return await self._writer.write(
            lambda c: completions.tag(c, owner, completion_id, metadata)
        )

    async def delete_completion(self, owner: str, completion_id: str) -> None:
        await self._writer.write(lambda c: completions.delete(c, owner, completion_id))

    # Objects at upstreams

    async def remember_objects(
        self, owner: str, objects: Sequence[UpstreamObject], now: int, under: str | None = None
    ) -> None:
        await self._writer.write(lambda c: upstream_objects.remember(c, owner, objects, now, under))

    async def own_objects(self, owner: str, ids: Collection[str]) -> Sequence[UpstreamObject]:
        return await self._read(lambda c: upstream_objects.own(c, owner, ids))

    async def has_objects(self, owner: str, kind: str) -> bool:
        return await self._read(lambda c: upstream_objects.has(c, owner, kind))

    async def forget_object(self, owner: str, upstream: str, object_id: str) -> None:
        await self._writer.write(lambda c: upstream_objects.forget(c, owner, upstream, object_id))

    async def object_owners(self) -> Sequence[str]:
        return await self._read(upstream_objects.owners)

    # Budgets

    async def spend(self, owner: str, tokens: int, now: int) -> None:
        await self._writer.write(lambda c: usage.spend(c, owner, tokens, now))

    async def spent(self, owner: str, since: int) -> int:
        return await self._read(lambda c: usage.spent(c, owner, since))

    async def ping(self) -> None:
        def write(connection: sqlite3.Connection) -> None:
            if room(self.path) < LEAST_ROOM:
                raise UnavailableError("The database cannot be used now: the disk is full.")
            conversations.touch(connection)

        await self._writer.write(write)

"""The store on PostgreSQL: what is one transaction in the port is one statement here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import EllipsisType
from typing import Any

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
from storage.port import Claim, Outcome, Piece
from storage.portions import portions
from storage.postgres import (
    beginning,
    completions,
    conversations,
    lessons,
    messages,
    migrations,
    responses,
    search,
    transfer,
    turns,
    upstream_objects,
    usage,
)
from storage.postgres.address import Patience, address
from storage.postgres.database import Database
from storage.postgres.nodes.bell import Bell
from storage.postgres.nodes.keys import KeyTable
from storage.postgres.nodes.members import Members
from storage.postgres.nodes.rates import Rates
from storage.postgres.withdraw import withdraw

#: How many pieces of running answers one statement keeps, in rows and in characters.
PIECES_AT_ONCE, CHARACTERS_AT_ONCE = 5_000, 8 << 20
#: What is waited for where a second without a beat is long.
BEATS = Patience(connect=2.0, free=2.0, answer=2.0)
#: Said of a database that has no more than a part of its history.
HALF = "history is being migrated to it; run 'trialogue migrate' again, to its end"


class PostgresStore:
    """A Store (see port.py) in a database of PostgreSQL, which others may use too."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        """`url` is PostgreSQL's own, with `pool_size` and `statement_cache_size` where wanted.

        Raises ValueError for what is none.
        """
        self.address = address(url, patience or Patience())
        self._db = Database(self.address)
        self._imports = transfer.Imports(self._db)
        # Connections of their own: a beat must not wait behind a slow statement.
        self._beats = Database(replace(self.address, pool_size=2, patience=BEATS))
        self.members = Members(self._beats)
        self.bell = Bell(self.address, self._beats)
        self.keys = KeyTable(self._db)
        self.rates = Rates(self._db)

    async def __aenter__(self) -> PostgresStore:
        """Bring the schema up and open.

        Raises SchemaTooNewError, UnfitError and UnavailableError.
        """
        await migrations.migrate(self.address)
        await self._db.open()
        await self._beats.open()
        try:
            if await self._db.row("SELECT FROM moving") is not None:
                raise migrations.UnfitError(HALF)
            self._pieces = await search.has_pieces(self._db)
            await turns.sweep(self._db)
            await conversations.purge_all(self._db)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what was begun and close every connection."""
        await self._beats.close()
        await self._db.close()

    @property
    def waiting(self) -> int:
        return self._db.waiting

    # Conversations

    async def create(self, owner: str, conversation: Conversation) -> Conversation:
        return await conversations.create(self._db, owner, conversation)

    async def conversation(self, owner: str, conversation_id: str) -> Conversation:
        return await conversations.conversation(self._db, owner, conversation_id)

    async def conversations(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        q: str | None = None,
        order: Order = Order.CREATED,
    ) -> Page[Conversation]:
        return await conversations.page(
            self._db, owner, limit, after, q, order, pieces=self._pieces
        )

    async def update(
        self, owner: str, conversation_id: str, changes: Mapping[str, Any], now: int
    ) -> Conversation:
        return await conversations.update(self._db, owner, conversation_id, changes, now)

    async def delete(self, owner: str, conversation_id: str) -> None:
        await self._db.finish(conversations.delete(self._db, owner, conversation_id))

    async def every_message(
        self, owner: str, conversation_id: str, *, after: str | None, limit: int
    ) -> Sequence[Message]:
        return await transfer.every_message(self._db, owner, conversation_id, after, limit)

    async def every_turn(
        self, owner: str, conversation_id: str, *, after: str | None, limit: int
    ) -> Sequence[Turn]:
        return await turns.in_order(self._db, owner, conversation_id, after, limit)

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        return await self._imports.put(owner, conversation, messages, turns)

    # Messages

    async def message(self, owner: str, conversation_id: str, message_id: str) -> Message:
        return await messages.message(self._db, owner, conversation_id, message_id)

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
        return await messages.branch(self._db, owner, conversation_id, leaf_id, limit, tokens)

    async def siblings(
        self, owner: str, conversation_id: str, parent_ids: Sequence[str | None]
    ) -> Mapping[str | None, Sequence[str]]:
        key = await conversations.conversation_key(self._db, owner, conversation_id)
        return await messages.siblings(self._db, owner, key, parent_ids)

    async def search(
        self, owner: str, query: Query, *, limit: int, after: str | None = None
    ) -> Page[Hit]:
        return await search.find(self._db, owner, query, limit, after, pieces=self._pieces)

    async def summarise(self, owner: str, summary: Message) -> Message:
        return await conversations.summarise(self._db, owner, summary)

    async def summaries(self, owner: str, conversation_id: str, *, limit: int) -> Sequence[Message]:
        key = await conversations.conversation_key(self._db, owner, conversation_id)
        return await messages.summaries(self._db, key, limit)

    # Turns

    async def claimed(self, owner: str, claim: Claim) -> str | None:
        return await turns.claimed(self._db, owner, claim)

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
        work = beginning.begin(
            self._db,
            owner,
            turn,
            question,
            conversation,
            title,
            claim,
            before,
            head,
            waiting,
            self.members.node,
        )
        return await self._db.finish(work)

    async def checkpoint(self, pieces: Sequence[Piece]) -> None:
        for part in portions(pieces, PIECES_AT_ONCE, CHARACTERS_AT_ONCE):
            await turns.checkpoint(self._db, part, self.members.node)

    async def end(self, owner: str, turn_id: str, outcome: Outcome) -> Turn:
        return await turns.end(self._db, owner, turn_id, outcome)

    async def withdraw(
        self, owner: str, turn_id: str, *, head_id: str | None = None, title: str = ""
    ) -> None:
        await self._db.finish(withdraw(self._db, owner, turn_id, head_id, title))

    async def turn(self, owner: str, turn_id: str) -> Turn:
        return await turns.turn(self._db, owner, turn_id)

    async def failed(self, owner: str, turn_ids: Collection[str]) -> Collection[str]:
        return await turns.failed(self._db, owner, turn_ids)

    async def next_turn(self, owner: str, conversation_id: str, after: str | None) -> Turn | None:
        return await turns.next_turn(self._db, owner, conversation_id, after)

    async def last_turn(self, owner: str, conversation_id: str) -> Turn | None:
        return await turns.last(self._db, owner, conversation_id)

    async def running(self) -> Sequence[tuple[str, Turn]]:
        return await turns.running(self._db)

    async def orphans(self) -> Sequence[tuple[str, Turn]]:
        return await turns.running(self._db, orphans=True)

    # Responses

    async def delete_response(self, owner: str, turn_id: str) -> str | None:
        return await responses.delete(self._db, owner, turn_id)

    async def expired(self, before: int, *, limit: int) -> Sequence[tuple[str, str]]:
        return await responses.expired(self._db, before, limit)

    async def append(
        self, owner: str, conversation_id: str, said: Sequence[Message], *, title: str, now: int
    ) -> None:
        await responses.append(self._db, owner, conversation_id, said, title, now)

    async def downwards(
        self, owner: str, conversation_id: str, leaf_id: str, *, below: int, limit: int
    ) -> Sequence[Message]:
        return await responses.downwards(self._db, owner, conversation_id, leaf_id, below, limit)

    async def rewrite(
        self, owner: str, conversation_id: str, message_id: str, content: Content, tokens: int
    ) -> None:
        await responses.rewrite(self._db, owner, conversation_id, message_id, content, tokens)

    async def find_message(self, owner: str, message_id: str) -> Message:
        return await responses.find_message(self._db, owner, message_id)

    # Completions

    async def keep_completion(self, owner: str, completion: Completion) -> None:
        await completions.keep(self._db, owner, completion)

    async def completion(self, owner: str, completion_id: str) -> Completion:
        return await completions.find(self._db, owner, completion_id)

    async def completions(
        self, owner: str, wanted: CompletionQuery, *, limit: int, after: str | None = None
    ) -> Page[Completion]:
        return await completions.page(self._db, owner, wanted, limit, after)

    async def tag_completion(
        self, owner: str, completion_id: str, metadata: Mapping[str, str]
    ) -> Completion:
        return await completions.tag(self._db, owner, completion_id, metadata)

    async def delete_completion(self, owner: str, completion_id: str) -> None:
        await completions.delete(self._db, owner, completion_id)

    # Objects at upstreams

    async def remember_objects(
        self, owner: str, objects: Sequence[UpstreamObject], now: int, under: str | None = None
    ) -> None:
        await upstream_objects.remember(self._db, owner, objects, now, under)

    async def own_objects(self, owner: str, ids: Collection[str]) -> Sequence[UpstreamObject]:
        return await upstream_objects.own(self._db, owner, ids)

    async def has_objects(self, owner: str, kind: str) -> bool:
        return await upstream_objects.has(self._db, owner, kind)

    async def forget_object(self, owner: str, upstream: str, object_id: str) -> None:
        await upstream_objects.forget(self._db, owner, upstream, object_id)

    async def object_owners(self) -> Sequence[str]:
        return await upstream_objects.owners(self._db)

    # Lessons

    async def lessons(self) -> Sequence[Lesson]:
        return await lessons.lessons(self._db)

    async def learn(self, lesson: Lesson) -> None:
        await lessons.learn(self._db, lesson)

    # Budgets

    async def spend(self, owner: str, tokens: int, now: int) -> None:
        await usage.spend(self._db, owner, tokens, now)

    async def spent(self, owner: str, since: int) -> int:
        return await usage.spent(self._db, owner, since)

    async def ping(self) -> None:
        await self._db.rows("UPDATE pings SET at = now()")

"""The one door to conversations: every wire asks, follows, watches and cancels here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from server.core import archive, validation
from server.core.errors import InvalidRequestError
from server.core.ids import NEW, check_id
from server.core.items import Items
from server.core.mine import ToldImports
from server.core.observability.metrics import Metrics
from server.core.observability.request_log import Requests
from server.core.passthrough import Passthrough
from server.core.prompt.characters import Characters
from server.core.prompt.compose import Composer
from server.core.prompt.preview import Preview, preview
from server.core.responses import Responses
from server.core.turns.begin import Asking
from server.core.turns.follow import Following
from server.core.turns.plan import Defaults, Planner
from server.core.turns.questions import ROOT, Ask, IfBusy, Mode, OnDisconnect, Regenerate, check_ask
from server.core.validation import checked
from server.live.news import Changed, Deleted, Made, News, WatchEvent
from server.live.turn import TurnEvent
from server.upstream.port import Upstream
from storage.model import Content, Conversation, Hit, Message, Order, Page, Query, Turn
from storage.port import NotFoundError, Store

__all__ = [
    "ROOT",
    "Ask",
    "Conversations",
    "Defaults",
    "IfBusy",
    "Mode",
    "OnDisconnect",
    "Regenerate",
]


class Conversations:
    """Async context manager; owns the tasks of running turns.

    The first word of every call is the owner: whose conversations they are. Raises what
    `errors.CODES` lists, and nothing else that a caller has to know.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        asking: Asking,
        following: Following,
        passthrough: Passthrough,
        requests: Requests,
    ) -> None:
        self._store = store
        self._planner = planner
        self._asking = asking
        self._following = following
        self._imports = ToldImports(store, following.mine)
        #: turns as OpenAI's stateful API has them
        self.responses = Responses(store, planner, asking, following)
        self.items = Items(store, planner, asking, following.mine)
        #: the calls of OpenAI's API that are part of no conversation
        self.passthrough = passthrough
        self.requests = requests

    async def __aenter__(self) -> Conversations:
        await self.recover()
        self._planner.composer.learning.remember(await self._store.lessons())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain(0)

    @property
    def draining(self) -> bool:
        return self._asking.draining

    @property
    def running(self) -> int:
        """How many turns are being written."""
        return self._following.running

    @property
    def metrics(self) -> Metrics:
        return self.requests.observed.metrics

    @property
    def counting(self) -> Composer:
        """What counts prompts, in the encoding of their models."""
        return self._planner.composer

    @property
    def characters(self) -> Characters:
        return self._planner.characters

    # Turns

    async def ask(
        self,
        owner: str,
        conversation_id: str,
        question: Ask,
        *,
        writer: Upstream | None = None,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
    ) -> Turn:
        """Keep a question, begin its turn, and return at once. The turn outlives its asker.

        The id may be "new". The same idempotency key and question give the same turn. `writer` is
        asked for this one answer in place of the upstream. `on_leave` is what becomes of the turn
        where this call is cancelled while it begins.
        """
        return await self._asking.ask(owner, conversation_id, question, writer, on_leave)

    async def regenerate(
        self,
        owner: str,
        conversation_id: str,
        again: Regenerate,
        *,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
    ) -> Turn:
        """Begin another answer to a question: a sibling of the one there is."""
        check_id(conversation_id, "conversation_id")
        return await self._asking.regenerate(owner, conversation_id, again, on_leave)

    def follow(
        self,
        owner: str,
        turn_id: str,
        *,
        after: int = 0,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
        progress: bool = False,
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield a turn's events from a cursor, live or long after: Started, Delta*, Ended.

        With `progress` also how far the prompt is read, before the first delta. Closing it stops
        the following; the turn too where `on_leave` is CANCEL.
        """
        return self._following.follow(owner, turn_id, after, on_leave, progress=progress)

    def watch(
        self,
        owner: str,
        conversation_id: str,
        *,
        after: tuple[str, int] | None = None,
        queue: bool = True,
        progress: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield the events of every turn of a conversation: the one that runs, and all to come.

        `after` is the turn and the cursor of the last event seen, to go on behind it. A watcher is
        a position in the conversation's turns: it misses none, however slowly it reads. The line of
        those who wait is told beside, as it is then, unless `queue` is False; and with `progress`
        how far prompts are read.
        """
        following = self._following
        return following.watch(owner, conversation_id, after, queue=queue, progress=progress)

    def watch_all(self, owner: str) -> AsyncGenerator[News, None]:
        """Yield what becomes of all conversations of an owner, from this call on, without deltas.

        First what runs and waits now. Who falls far behind hears Resync in place of what is lost,
        and then what runs and waits.
        """
        return self._following.mine.watch(owner)

    async def withdraw(self, owner: str, conversation_id: str, waiting_id: str) -> None:
        """Take a question back that waits in line: who asked it hears conversation_busy."""
        check_id(conversation_id, "conversation_id")
        validation.known(waiting_id, "waiting_id")
        if not await self._asking.withdraw(owner, conversation_id, waiting_id):
            raise NotFoundError("No question of that id waits here; it may have begun.")

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        """Stop the writing of an answer and return the turn as it ended."""
        return await self._following.cancel(owner, turn_id)

    async def turn(self, owner: str, turn_id: str) -> Turn:
        """Return a turn; a running one with its answer so far."""
        return await self._following.turn(owner, turn_id)

    # Conversations

    async def create(
        self,
        owner: str,
        *,
        id: str | None = None,  # noqa: A002 - the caller's word for it
        title: str = "",
        system_prompt: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Keep a new, empty conversation."""
        self._asking.refuse_if_draining()
        given = {"title": title, "metadata": metadata or {}}
        given |= {"system_prompt": system_prompt} if system_prompt else {}
        given |= {"model": model} if model else {}
        changes = checked(given)
        now = self._planner.ids.now()
        conversation = Conversation(
            id=self._planner.ids.new("conv") if id in (None, "", NEW) else check_id(str(id), "id"),
            title=changes["title"],
            system_prompt=system_prompt or self._planner.defaults.system_prompt,
            model=model or None,
            metadata=changes["metadata"],
            created_at=now,
            updated_at=now,
        )
        made = self._store.create(owner, conversation)
        return await self._following.mine.kept(owner, made, Made(conversation.id))

    async def get(self, owner: str, conversation_id: str) -> Conversation:
        return await self._store.conversation(owner, check_id(conversation_id, "conversation_id"))

    async def page(
        self,
        owner: str,
        *,
        limit: int = 20,
        after: str | None = None,
        q: str | None = None,
        order: Order = Order.CREATED,
    ) -> Page[Conversation]:
        """Return a page of conversations, newest first, or by activity."""
        validation.limit(limit)
        validation.known(after, "after")
        validation.known(q, "q")
        if q and order is not Order.CREATED:
            raise InvalidRequestError("What is found by q comes in no other order.", "order")
        return await self._store.conversations(owner, limit=limit, after=after, q=q, order=order)

    async def update(
        self, owner: str, conversation_id: str, changes: Mapping[str, Any]
    ) -> Conversation:
        """Change title, system_prompt, model, metadata, head_id, truncation or pinned."""
        check_id(conversation_id, "conversation_id")
        now = self._planner.ids.now()
        changed = self._store.update(owner, conversation_id, checked(changes), now)
        return await self._following.mine.kept(owner, changed, Changed(conversation_id))

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation; a turn that runs in it is cancelled first."""
        there = await self.get(owner, conversation_id)
        cleared = self._asking.clear(owner, conversation_id)
        await self._following.mine.kept(owner, cleared, Deleted(there))

    async def messages(
        self,
        owner: str,
        conversation_id: str,
        *,
        leaf: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Page[Message]:
        """Return one branch, oldest first: the last `limit` messages, or those above `before`."""
        validation.limit(limit)
        validation.known(leaf, "leaf")
        validation.known(before, "before")
        conversation = await self.get(owner, conversation_id)
        last = leaf or conversation.head_id
        if before is not None:
            last = (await self._store.message(owner, conversation_id, before)).parent_id
        found = await self._store.branch(owner, conversation_id, last, limit=limit)
        more = bool(found) and found[-1].parent_id is not None
        beside = await self._store.siblings(
            owner, conversation_id, [message.parent_id for message in found]
        )
        told = (replace(m, siblings=tuple(beside[m.parent_id])) for m in reversed(found))
        return Page(tuple(told), more)

    async def preview(self, owner: str, conversation_id: str, question: Ask) -> Preview:
        """Return what would be sent for a question, message by message. Asks nobody."""
        question = check_ask(question)
        await self._planner.check(question)
        await self.get(owner, conversation_id)
        request = await self._planner.request(owner, conversation_id, question)
        return await preview(self._store, self.counting, request)

    async def search(
        self, owner: str, query: Query, *, limit: int = 20, after: str | None = None
    ) -> Page[Hit]:
        """Return messages and titles that have all words of the query, best first."""
        validation.limit(limit)
        validation.known(after, "after")
        validation.known(query.conversation_id, "conversation_id")
        validation.short_text(query.words, "q", validation.LONGEST_QUERY)
        if not query.words.strip():
            raise InvalidRequestError("q must not be empty.", "q")
        return await self._store.search(owner, query, limit=limit, after=after)

    def export(
        self,
        owner: str,
        kind: str,
        conversation_id: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield one conversation, or all, as a file: "json", "jsonl" or "markdown"."""
        return archive.write(self._store, owner, kind, conversation_id, progress)

    async def import_(
        self,
        owner: str,
        source: AsyncIterator[bytes] | archive.Readable,
        progress: Callable[[int], None] | None = None,
    ) -> archive.Report:
        """Keep the conversations of a file; `progress` hears how many have been read."""
        self._asking.refuse_if_draining()

        async def count(content: Content) -> tuple[int, str]:
            model = self._planner.defaults.model
            tokens = await self.counting.count(model, content)
            return tokens, self.counting.encoding_of(model).name

        now = self._planner.ids.now()
        return await archive.import_(self._imports, owner, source, count, progress, now=now)

    # Life

    async def recover(self) -> None:
        """End every turn that somebody who died left running."""
        await self._asking.recover()

    async def ready(self) -> None:
        """Raise what an ask would meet now: DrainingError, or UnavailableError of the database."""
        self._asking.refuse_if_draining()
        await self._store.ping()

    async def drain(self, grace: float) -> None:
        """Refuse asks, let turns and calls end, interrupt the turns after `grace` seconds.

        A second drain with less grace cuts the first one short.
        """
        calls = asyncio.create_task(self.passthrough.idle(grace))
        try:
            await self._asking.drain(grace)
            await self._following.close()
            await calls
        finally:
            calls.cancel()

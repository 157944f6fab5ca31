"""The one door to conversations: every wire asks, follows, watches and cancels here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from server.core import archive, validation
from server.core.access.concurrency import Room
from server.core.access.token_budget import TokenBudget
from server.core.clock import microseconds
from server.core.completions import StoredCompletions, UpstreamObjects
from server.core.errors import InvalidRequestError
from server.core.ids import NEW, Ids, check_id
from server.core.observability.metrics import Metrics
from server.core.observability.request import about
from server.core.observability.request_log import Requests
from server.core.observability.traces import NoTraces, Traces
from server.core.prompt.compaction import Compaction
from server.core.prompt.compose import Composer
from server.core.prompt.learning import Learning
from server.core.prompt.preview import Preview, preview
from server.core.turns.begin import Asking
from server.core.turns.plan import Defaults, Planner
from server.core.turns.questions import ROOT, Ask, IfBusy, Mode, OnDisconnect, Regenerate, check_ask
from server.core.turns.record import PATIENCE
from server.core.turns.recover import recover
from server.core.turns.run import CHECKPOINT_SECONDS, Running
from server.core.validation import checked
from server.live.notify import Notifier
from server.live.pacing import Pacer
from server.live.turn import Ended, TurnEvent, replay
from server.live.turn_queue import TurnQueue
from server.upstream.port import Models, ModelTable, Upstream
from storage.model import Content, Conversation, Hit, Message, Page, Query, Status, Turn
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
        upstream: Upstream,
        defaults: Defaults,
        *,
        now: Callable[[], int] = microseconds,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        patience: float = PATIENCE,
        traces: Traces | None = None,
        shared: Callable[[], bool] = lambda: True,
        models: Models | None = None,
    ) -> None:
        """`patience` is for ends that cannot be kept, in seconds; `shared`: see Room, Models."""
        self._store, self._now = store, now
        self._defaults, self.characters = defaults, defaults.characters
        self._notifier, self._ids = Notifier(), Ids(now)
        known = models or ModelTable()
        self._composer = self.counting = Composer(store, defaults.counting, known, Learning(now))
        self.metrics, traces = Metrics(), traces or NoTraces()
        self.requests = Requests(self.metrics, traces)
        self._running = Running(
            store, upstream, self._composer, self.metrics, now, checkpoint_seconds, patience, traces
        )
        self._turn_queue, most = TurnQueue(defaults.limits.waiting), defaults.upstreams
        self.room = Room(most.answers, "turns and calls", shared)
        self._planner = Planner(store, self._composer, defaults, self._ids, now)
        self.token_budget = TokenBudget(store, defaults.budget, now)
        self._compaction = Compaction(store, upstream, self._composer, self._ids, now, most)
        self._asking = self._asked_of()
        #: what was stored by OpenAI's API: answers here, and whose the things at upstreams are
        self.completions, self.objects = StoredCompletions(store), UpstreamObjects(store, now)
        self._pacer, self._drained = Pacer(), False
        self._show()

    def _asked_of(self) -> Asking:
        """Return who begins the turns, on all that was made before."""
        return Asking(
            self._store,
            self._planner,
            self._running,
            self._notifier,
            self._turn_queue,
            self.token_budget,
            self._defaults.limits,
            self.room,
            self._now,
            self._compaction.consider,
            self._compaction.give_way,
        )

    def _show(self) -> None:
        """Let the metrics show how busy it is."""
        self.metrics.show("turns_running", lambda: len(self._running))
        self.metrics.show("turns_waiting", lambda: self._turn_queue.waiting)
        self.metrics.show("followers", lambda: self._running.followers)
        self.metrics.show("database_queue", lambda: self._store.waiting)

    async def __aenter__(self) -> Conversations:
        await recover(self._store, self._composer, self._ids, self._now())
        self._composer.learning.remember(await self._store.lessons())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain(0)

    @property
    def draining(self) -> bool:
        return self._asking.draining

    @property
    def running(self) -> int:
        """How many turns are being written."""
        return len(self._running)

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

    async def follow(
        self,
        owner: str,
        turn_id: str,
        *,
        after: int = 0,
        on_leave: OnDisconnect = OnDisconnect.CONTINUE,
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield a turn's events from a cursor, live or long after: Started, Delta*, Ended.

        Closing it stops the following; the turn too where `on_leave` is CANCEL.
        """
        validation.cursor(after)
        validation.known(turn_id, "turn_id")
        live = self._running.find(owner, turn_id)
        if live is None:
            turn = await self._store.turn(owner, turn_id)
            about(turn)
            async for event in replay(turn, after):
                await self._pacer.wait(event)
                yield event
            return
        about(live.turn)
        heard_the_end, live.followers = False, live.followers + 1
        try:
            async with aclosing(live.follow(after)) as events:
                async for event in events:
                    await self._pacer.wait(event)
                    heard_the_end = isinstance(event, Ended)
                    yield event
        finally:
            live.followers -= 1
            if on_leave is OnDisconnect.CANCEL and not heard_the_end:
                live.stop(Status.CANCELLED)

    async def watch(
        self, owner: str, conversation_id: str, *, after: tuple[str, int] | None = None
    ) -> AsyncGenerator[TurnEvent, None]:
        """Yield the events of every turn of a conversation: the one that runs, and all to come.

        `after` is the turn and the cursor of the last event seen, to go on behind it. A watcher is
        a position in the conversation's turns: it misses none, however slowly it reads.
        """
        last, turn, cursor = await self._watch_from(owner, conversation_id, after)
        while not self._drained:
            place = (owner, conversation_id)
            heard = self._notifier.listen(place)
            try:
                turn = turn or await self._store.next_turn(owner, conversation_id, last)
                if turn is None:
                    await heard
                    continue
            finally:
                self._notifier.leave(place, heard)
            async with aclosing(self.follow(owner, turn.id, after=cursor)) as events:
                async for event in events:
                    yield event
            last, turn, cursor = turn.id, None, 0

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        """Stop the writing of an answer and return the turn as it ended."""
        validation.known(turn_id, "turn_id")
        live = self._running.find(owner, turn_id)
        if live is None:
            return await self._store.turn(owner, turn_id)
        about(live.turn)
        live.stop(Status.CANCELLED)
        return await live.ended()

    async def turn(self, owner: str, turn_id: str) -> Turn:
        """Return a turn; a running one with its answer so far."""
        validation.known(turn_id, "turn_id")
        live = self._running.find(owner, turn_id)
        return live.snapshot() if live else await self._store.turn(owner, turn_id)

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
        now = self._now()
        conversation = Conversation(
            id=self._ids.new("conv") if id in (None, "", NEW) else check_id(str(id), "id"),
            title=changes["title"],
            system_prompt=system_prompt or self._defaults.system_prompt,
            model=model or None,
            metadata=changes["metadata"],
            created_at=now,
            updated_at=now,
        )
        return await self._store.create(owner, conversation)

    async def get(self, owner: str, conversation_id: str) -> Conversation:
        return await self._store.conversation(owner, check_id(conversation_id, "conversation_id"))

    async def page(
        self, owner: str, *, limit: int = 20, after: str | None = None, q: str | None = None
    ) -> Page[Conversation]:
        """Return a page of conversations, newest first."""
        validation.limit(limit)
        validation.known(after, "after")
        validation.known(q, "q")
        return await self._store.conversations(owner, limit=limit, after=after, q=q)

    async def update(
        self, owner: str, conversation_id: str, changes: Mapping[str, Any]
    ) -> Conversation:
        """Change title, system_prompt, model, metadata, head_id or truncation."""
        check_id(conversation_id, "conversation_id")
        return await self._store.update(owner, conversation_id, checked(changes), self._now())

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Delete a conversation; a turn that runs in it is cancelled first."""
        await self.get(owner, conversation_id)
        await self._asking.clear(owner, conversation_id)

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
        return await preview(self._store, self._composer, request)

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
            model = self._defaults.model
            tokens = await self._composer.count(model, content)
            return tokens, self._composer.encoding_of(model).name

        return await archive.import_(self._store, owner, source, count, progress, now=self._now())

    # Life

    async def ready(self) -> None:
        """Raise what an ask would meet now: DrainingError, or UnavailableError of the database."""
        self._asking.refuse_if_draining()
        await self._store.ping()

    async def drain(self, grace: float) -> None:
        """Refuse asks, let running turns end, interrupt them after `grace` seconds."""
        await self._asking.drain()
        await self._running.drain(grace)
        await self._compaction.close()
        self._drained = True
        self._notifier.ring_all()

    async def _watch_from(
        self, owner: str, conversation_id: str, after: tuple[str, int] | None
    ) -> tuple[str | None, Turn | None, int]:
        """Return the last turn seen whole, the one to go on with, and the cursor in it."""
        if after is not None:
            validation.cursor(after[1])
            turn = await self.turn(owner, after[0])
            if turn.conversation_id != conversation_id:
                raise NotFoundError(f"There is no turn {turn.id!r} in this conversation.", "after")
            # Its end too, for whoever has it: the last delta and the end have the same position.
            return None, turn, after[1]
        last = await self._store.last_turn(owner, check_id(conversation_id, "conversation_id"))
        if last is not None and last.status is Status.RUNNING:
            return None, last, 0
        return last.id if last else None, None, 0

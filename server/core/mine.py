"""All that is an owner's, live: reads what became of it, and tells everybody who watches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from server.live.background import Background
from server.live.news import (
    Began,
    Changed,
    ConversationEvent,
    Deleted,
    Fate,
    Made,
    Moved,
    News,
    Note,
    Over,
    Resync,
)
from server.live.notify import Listeners
from server.live.pacing import Pacer, size
from server.live.port import LiveTurns
from server.live.turn import Ended, Started, started
from server.live.waiting import QueueChanged
from storage.model import Conversation, Message, Turn
from storage.parts import length_of
from storage.port import NotFoundError, Store

T = TypeVar("T")
log = structlog.get_logger("trialogue.mine")

#: What is held for those who are behind: events, and characters of them; the newest always is.
MOST_EVENTS, MOST_CHARACTERS = 256, 1 << 20
#: Notes that wait for the database at most.
MOST_NOTES = 1_000


class Feed:
    """The newest events of one owner's; who watches is a position among them.

    It is there for as long as somebody watches, who holds it. Who is behind its first event has
    missed some, and is told so.
    """

    def __init__(self) -> None:
        self.first = self.end = 0
        self.notes: dict[Hashable, Note] = {}
        self.telling = False
        self.growth = Listeners()
        self._events: deque[News] = deque()
        self._characters = 0

    def note(self, what: Note) -> None:
        """Have something told, once and last where it was to be told already."""
        key = _key(what)
        self.notes.pop(key, None)
        self.notes[key] = what
        if len(self.notes) > MOST_NOTES:
            self.lose()

    def tell(self, what: Note, events: Sequence[News]) -> None:
        """Add what was made of a note, and let go of what is too much."""
        if self.notes.get(_key(what)) is what:
            del self.notes[_key(what)]
        for event in events:
            self._events.append(event)
            self._characters += size(event)
            self.end += 1
        while len(self._events) > MOST_EVENTS or (
            self._characters > MOST_CHARACTERS and len(self._events) > 1
        ):
            self._characters -= size(self._events.popleft())
            self.first += 1
        self.growth.wake()

    def lose(self) -> None:
        """Let everybody have missed something."""
        self.notes.clear()
        self._events.clear()
        self._characters = 0
        self.end += 1
        self.first = self.end
        self.growth.wake()

    def at(self, position: int) -> News:
        return self._events[position - self.first]


class Mine:
    """Hears what happens to anybody's, and tells those who watch; where nobody does, it is little.

    What is told is read from the store when it is told: so it is kept, and however often it changed
    meanwhile it is read once, for all who watch.
    """

    def __init__(self, store: Store, live: LiveTurns, pacer: Pacer) -> None:
        self._store = store
        self._live = live
        self._pacer = pacer
        self._feeds: WeakValueDictionary[str, Feed] = WeakValueDictionary()
        #: by owner, turns that run and conversations with a line: what a watcher begins with
        self._running: dict[str, dict[str, Turn]] = {}
        self._queued: dict[str, dict[str, None]] = {}
        self._background = Background()
        self._closed = False
        live.hear(self._heard, self.watched, self._missed)

    def watch(self, owner: str) -> AsyncGenerator[News, None]:
        """Yield what runs and waits now, and all that happens from now on; see Conversations."""
        feed = self._feeds.setdefault(owner, Feed())
        return self._read(owner, feed, feed.end, self._now(owner, feed))

    def watched(self, owner: str) -> bool:
        return owner in self._feeds

    def note(self, owner: str, what: Note) -> None:
        """Say what happened to something of an owner's; it is kept already."""
        self._live.note(owner, what)

    async def kept(self, owner: str, write: Coroutine[Any, Any, T], what: Note) -> T:
        """Wait for a write, and note what it did, though whoever asked for it leaves meanwhile."""

        async def noted() -> T:
            done = await write
            self.note(owner, what)
            return done

        return await asyncio.shield(self._background.begin(noted()))

    async def close(self) -> None:
        """Tell what is to be told, and end all watching."""
        self._closed = True
        await self._background.over()
        for feed in list(self._feeds.values()):
            feed.growth.wake()

    def _heard(self, owner: str, what: Note) -> None:
        match what:
            case Began(turn) if self._live.find(owner, turn.id) is not None:
                self._running.setdefault(owner, {})[turn.id] = turn
            case Over(turn):
                _forget(self._running, owner, turn.id)
            case Moved(conversation_id) if self._live.line((owner, conversation_id)).count:
                self._queued.setdefault(owner, {})[conversation_id] = None
            case Moved(conversation_id):
                _forget(self._queued, owner, conversation_id)
        if (feed := self._feeds.get(owner)) is not None:
            feed.note(what)
            if not feed.telling:
                feed.telling = True
                self._background.begin(self._tell(owner, feed))

    def _missed(self) -> None:
        for feed in list(self._feeds.values()):
            feed.lose()

    async def _tell(self, owner: str, feed: Feed) -> None:
        """Make events of what was noted, in order, until nothing is left."""
        while feed.notes:
            what = next(iter(feed.notes.values()))
            try:
                feed.tell(what, await self._events_of(owner, what))
            except Exception as error:  # noqa: BLE001 - whatever it was, those who watch missed it
                log.warning("what happened was not read", error=type(error).__name__)
                feed.lose()
        feed.telling = False

    async def _events_of(self, owner: str, what: Note) -> Sequence[News]:
        match what:
            case Moved(conversation_id):
                return [QueueChanged(conversation_id, self._live.line((owner, conversation_id)))]
            case Deleted(conversation):
                return _became(Fate.DELETED, conversation)
            case Made(conversation_id):
                return _became(Fate.CREATED, await self._there(owner, conversation_id))
            case Changed(conversation_id, made):
                if (there := await self._there(owner, conversation_id)) is None:
                    return _became(Fate.DELETED, made)
                return _became(Fate.UPDATED, there)
            case Began(turn):
                there = await self._there(owner, turn.conversation_id)
                # What a first question makes is made in its own moment.
                first = there is not None and there.created_at == turn.created_at
                fate = Fate.CREATED if first else Fate.UPDATED
                return [*_became(fate, there), Started(started(turn), 0)]
            case Over(turn):
                there = await self._there(owner, turn.conversation_id)
                if there is not None and there.unlisted:  # one that a dead process left
                    return []
                return [*_became(Fate.UPDATED, there), _over(turn)]

    async def _there(self, owner: str, conversation_id: str) -> Conversation | None:
        try:
            return await self._store.conversation(owner, conversation_id)
        except NotFoundError:  # what became of it is told behind
            return None

    def _now(self, owner: str, feed: Feed) -> list[News]:
        """Return what runs and waits, save what is to be told anyway."""
        turns = [
            Started(started(turn), 0)
            for turn in self._running.get(owner, {}).values()
            if _key(Began(turn)) not in feed.notes
        ]
        lines = [
            QueueChanged(conversation_id, self._live.line((owner, conversation_id)))
            for conversation_id in self._queued.get(owner, ())
            if _key(Moved(conversation_id)) not in feed.notes
        ]
        return [*turns, *lines]

    async def _elsewhere(self, owner: str) -> list[News]:
        """Return what runs in other processes; it may be told once more as something new."""
        found: list[News] = []
        for turn_id in await self._live.running_elsewhere(owner):
            with suppress(NotFoundError):
                found.append(Started(started(await self._store.turn(owner, turn_id)), 0))
        return found

    async def _read(
        self, owner: str, feed: Feed, at: int, told: Sequence[News]
    ) -> AsyncGenerator[News, None]:
        told = [*told, *await self._elsewhere(owner)]
        while True:
            for event in told:
                await self._pacer.wait(event)
                yield event
            if at < feed.first:
                at, told = feed.end, [Resync(), *self._now(owner, feed)]
                told += await self._elsewhere(owner)
            elif at < feed.end:
                at, told = at + 1, [feed.at(at)]
            elif self._closed and not feed.telling:
                return
            else:
                told = ()
                await _grown(feed.growth)


class ToldImports:
    """Puts imported conversations into the store, and notes each."""

    def __init__(self, store: Store, mine: Mine) -> None:
        self._store = store
        self._mine = mine

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        messages: Sequence[Message],
        turns: Sequence[Turn],
    ) -> bool:
        new = self._mine.watched(owner) and not await self._is_there(owner, conversation.id)
        changed = await self._store.put(owner, conversation, messages, turns)
        if changed:
            self._mine.note(owner, Made(conversation.id) if new else Changed(conversation.id))
        return changed

    async def _is_there(self, owner: str, conversation_id: str) -> bool:
        try:
            await self._store.conversation(owner, conversation_id)
        except NotFoundError:
            return False
        return True


def _key(what: Note) -> Hashable:
    """Return what makes two notes one."""
    match what:
        case Began(turn) | Over(turn):
            return type(what), turn.id
        case Deleted(conversation):
            return type(what), conversation.id
        case Made(conversation_id) | Changed(conversation_id) | Moved(conversation_id):
            return type(what), conversation_id


def _over(turn: Turn) -> Ended:
    """Return a turn's end as it is held: nobody is told what was offered, which may be large."""
    return Ended(replace(turn, options={}), length_of(turn.content))


def _became(fate: Fate, conversation: Conversation | None) -> list[News]:
    """Tell of a conversation, but where it is gone, or in no list."""
    if conversation is None or conversation.unlisted:
        return []
    return [ConversationEvent(fate, conversation)]


def _forget(by_owner: dict[str, dict[str, T]], owner: str, name: str) -> None:
    if (own := by_owner.get(owner)) is not None:
        own.pop(name, None)
        if not own:
            del by_owner[owner]


async def _grown(growth: Listeners) -> None:
    heard = growth.listen()
    try:
        await heard
    except BaseException:
        growth.leave(heard)
        raise

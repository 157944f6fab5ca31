"""Tests of following and watching: live, late, slow or again, everybody reads the same text."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, OnDisconnect, Regenerate
from server.core.errors import InvalidRequestError
from server.core.turns.plan import Defaults
from server.live.turn import Delta, Ended, Started, TurnEvent
from server.live.waiting import QueueChanged
from storage.model import Status, Turn
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import (
    asked,
    check_shape,
    ended,
    gathered,
    settled,
    text_of,
    until_text,
)
from tests.server.core.slow_deletion import SlowDeletion
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import MODEL, Parrot, Puppet

EMOJI = ["👩", "\u200d", "👩\u200d👧", " 漢", "字 ", "مرحبا", " e\u0301", "🏳️\u200d🌈", "\r\n"]


# Following


async def test_followers_read_the_same_whenever_they_come(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    followers = []
    for piece in EMOJI:
        followers.append(asyncio.create_task(gathered(conversations.follow(ADA, turn.id))))
        await settled()
        upstream.say(piece)
    upstream.finish()
    followers.append(asyncio.create_task(gathered(conversations.follow(ADA, turn.id))))
    done = await ended(conversations, turn)
    late = await gathered(conversations.follow(ADA, turn.id))
    for events in (*await asyncio.gather(*followers), late):
        check_shape(events)
        assert text_of(events) == done.answer == "".join(EMOJI)


async def test_following_goes_on_from_any_cursor_live_and_late(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    answer = "".join(EMOJI)
    upstream.say(*EMOJI)
    await until_text(conversations, turn, answer)
    live = [
        asyncio.create_task(gathered(conversations.follow(ADA, turn.id, after=after)))
        for after in range(len(answer) + 3)
    ]
    await settled()
    upstream.finish()
    await ended(conversations, turn)
    for after, task in enumerate(live):
        late = await gathered(conversations.follow(ADA, turn.id, after=after))
        for events in (await task, late):
            check_shape(events, after)
            assert text_of(events) == answer[after:]


async def test_a_resumed_follower_reads_on_where_it_left(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    upstream.say("Hello ")
    read, cursor = "", 0
    async with aclosing(conversations.follow(ADA, turn.id)) as events:
        async for event in events:
            if isinstance(event, Delta):
                read, cursor = event.text, event.cursor
                break
    upstream.say("again").finish()
    rest = await gathered(conversations.follow(ADA, turn.id, after=cursor))
    assert read + text_of(rest) == "Hello again"


async def test_a_slow_follower_reads_the_same_in_fewer_pieces(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    slow = conversations.follow(ADA, turn.id)
    first = [await anext(slow)]
    upstream.answer(*(f"{number} 🙂 " for number in range(500)))
    done = await ended(conversations, turn)
    events = first + await gathered(slow)
    check_shape(events)
    assert text_of(events) == done.answer
    assert len(events) == 3


async def test_one_who_leaves_takes_nothing_from_the_others(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    leaving = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    await settled()
    leaving.cancel()
    upstream.answer("Hi")
    assert (await ended(conversations, turn)).status is Status.COMPLETED


@pytest.mark.parametrize("owner", [ADA, BOB])
async def test_what_is_not_ones_own_cannot_be_followed_or_stopped(
    conversations: Conversations, owner: str
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    turn_id = turn.id if owner == BOB else "nowhere"
    for call in (
        anext(conversations.follow(owner, turn_id)),
        conversations.turn(owner, turn_id),
        conversations.cancel(owner, turn_id),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert (await conversations.turn(ADA, turn.id)).status is Status.RUNNING


@pytest.mark.parametrize("after", [-1, 1 << 63])
async def test_a_cursor_that_is_none_is_refused(parroted: Conversations, after: int) -> None:
    turn = await asked(parroted, "Hello")
    with pytest.raises(InvalidRequestError):
        await anext(parroted.follow(ADA, turn.id, after=after))


async def test_leaving_stops_the_turn_where_the_asker_wanted_that(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    events = conversations.follow(ADA, turn.id, on_leave=OnDisconnect.CANCEL)
    upstream.say("Half")
    while not isinstance(await anext(events), Delta):
        pass
    await events.aclose()
    done = await ended(conversations, turn)
    assert (done.status, done.answer) == (Status.CANCELLED, "Half")
    assert upstream.closed == 1


async def test_leaving_after_the_end_stops_nothing(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    upstream.answer("Hi")
    async with aclosing(conversations.follow(ADA, turn.id, on_leave=OnDisconnect.CANCEL)) as events:
        async for event in events:
            if isinstance(event, Ended):
                break
    assert (await conversations.turn(ADA, turn.id)).status is Status.COMPLETED


# Watching


class Watcher:
    """Somebody who watches a conversation and notes what comes."""

    def __init__(
        self, conversations: Conversations, into: str = "c", after: tuple[str, int] | None = None
    ) -> None:
        self.events: list[TurnEvent] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._watch(conversations, into, after))

    async def _watch(
        self, conversations: Conversations, into: str, after: tuple[str, int] | None
    ) -> None:
        async with aclosing(conversations.watch(ADA, into, after=after)) as events:
            async for event in events:
                if not isinstance(event, QueueChanged):
                    self.events.append(event)
                    self._more.set()

    async def until_ended(self, times: int) -> list[Turn]:
        """Wait for so many ends and return the turns as they ended."""
        while len(self.ends) < times:
            self._more.clear()
            await self._more.wait()
        return self.ends

    @property
    def ends(self) -> list[Turn]:
        return [event.turn for event in self.events if isinstance(event, Ended)]

    async def until_begun(self) -> None:
        """Wait for the first event."""
        await self._more.wait()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def until_heard_by(conversations: Conversations, watchers: int) -> None:
    """Wait until so many listen for the next turn of the conversation."""
    while conversations._following._live.listening((ADA, "c")) < watchers:
        await asyncio.sleep(0.001)


async def test_a_watcher_hears_every_turn_to_come_whoever_asks(parroted: Conversations) -> None:
    before = await asked(parroted, "before")
    watcher = Watcher(parroted)
    await until_heard_by(parroted, 1)
    turns = [await asked(parroted, f"question {number} 🙂") for number in range(5)]
    turns.append(await ended(parroted, await parroted.regenerate(ADA, "c", Regenerate())))
    assert await watcher.until_ended(6) == turns
    assert before.id not in {
        event.turn.id for event in watcher.events if isinstance(event, Started)
    }
    assert text_of(watcher.events) == "".join(turn.answer for turn in turns)
    await watcher.leave()


async def test_a_watcher_hears_the_whole_of_the_turn_that_runs(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    upstream.say("Half ")
    await until_text(conversations, turn, "Half ")
    watcher = Watcher(conversations)
    await watcher.until_begun()
    upstream.answer("and whole")
    (done,) = await watcher.until_ended(1)
    check_shape(watcher.events)
    assert text_of(watcher.events) == done.answer == "Half and whole"
    await watcher.leave()


async def test_a_watcher_who_is_slow_misses_no_turn(parroted: Conversations) -> None:
    await parroted.create(ADA, id="c")
    events = parroted.watch(ADA, "c")
    listening = asyncio.ensure_future(anext(events))
    await until_heard_by(parroted, 1)
    turns = [await asked(parroted, str(number)) for number in range(10)]
    seen = [await listening]
    while sum(isinstance(event, Ended) for event in seen) < 10:
        seen.append(await anext(events))
    assert [event.turn for event in seen if isinstance(event, Ended)] == turns
    await events.aclose()


async def test_many_watchers_hear_the_same(parroted: Conversations) -> None:
    await parroted.create(ADA, id="c")
    watchers = [Watcher(parroted) for _ in range(20)]
    await until_heard_by(parroted, 20)
    many = [asyncio.create_task(asked(parroted, str(number))) for number in range(10)]
    await asyncio.gather(*many)
    ends = [await watcher.until_ended(10) for watcher in watchers]
    assert all(heard == ends[0] for heard in ends)
    for watcher in watchers:
        await watcher.leave()


@pytest.mark.parametrize("cursor", [0, 2, 7, 99])
async def test_a_watcher_resumes_behind_what_it_saw(parroted: Conversations, cursor: int) -> None:
    """The end of the turn it names comes again: it has the same position as the last delta."""
    turns = [await asked(parroted, f"turn {number}") for number in range(3)]
    watcher = Watcher(parroted, after=(turns[0].id, cursor))
    assert await watcher.until_ended(3) == turns
    unread = turns[0].answer[cursor:] + turns[1].answer + turns[2].answer
    assert text_of(watcher.events) == unread
    await watcher.leave()


async def test_a_watcher_resumes_in_a_running_turn(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    upstream.say("Half ")
    await until_text(conversations, turn, "Half ")
    watcher = Watcher(conversations, after=(turn.id, 5))
    await settled()
    upstream.answer("and whole")
    await watcher.until_ended(1)
    assert text_of(watcher.events) == "and whole"
    await watcher.leave()


async def test_a_watcher_cannot_resume_in_another_conversation(parroted: Conversations) -> None:
    await asked(parroted, "Hello")
    elsewhere = await asked(parroted, "Hello", into="other")
    watcher = Watcher(parroted, after=(elsewhere.id, 0))
    await asyncio.wait([watcher.task], timeout=2)
    await watcher.leave()
    assert watcher.events == []
    assert not watcher.task.cancelled()
    assert isinstance(watcher.task.exception(), NotFoundError)


@pytest.mark.parametrize("resume", [False, True])
async def test_another_s_conversation_cannot_be_watched(
    parroted: Conversations, resume: bool
) -> None:
    turn = await asked(parroted, "Hello")
    after = (turn.id, 0) if resume else None
    with pytest.raises(NotFoundError):
        await anext(parroted.watch(BOB, "c", after=after))


async def test_a_watcher_of_a_deleted_conversation_hears_that(parroted: Conversations) -> None:
    await asked(parroted, "Hello")
    watcher = Watcher(parroted)
    await settled()
    await parroted.delete(ADA, "c")
    with pytest.raises(NotFoundError):
        await watcher.task


async def test_it_hears_that_where_who_deleted_it_left(tmp_path: Path) -> None:
    store = SlowDeletion(tmp_path / "slow.db")
    async with store, core_of(store, Parrot(), Defaults(MODEL)) as conversations:
        await conversations.create(ADA, id="c")
        watcher = Watcher(conversations)
        await until_heard_by(conversations, 1)
        leaving = asyncio.create_task(conversations.delete(ADA, "c"))
        await store.deleting.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        store.go_on.set()
        with pytest.raises(NotFoundError):
            await conversations.delete(ADA, "c")
        with pytest.raises(NotFoundError):
            await watcher.task


async def test_a_watcher_s_watching_ends_with_the_drain(store: SQLiteStore) -> None:
    async with core_of(store, Parrot(), Defaults(MODEL)) as conversations:
        await asked(conversations, "Hello")
        watcher = Watcher(conversations)
        await settled()
    await watcher.task
    assert watcher.events == []


async def test_watchers_leave_nothing_behind(parroted: Conversations) -> None:
    await parroted.create(ADA, id="c")
    watchers = [Watcher(parroted) for _ in range(5)]
    await until_heard_by(parroted, 5)
    for watcher in watchers:
        await watcher.leave()
    assert not parroted._following._live.listening((ADA, "c"))

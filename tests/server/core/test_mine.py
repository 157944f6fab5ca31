"""Tests of all that is an owner's, live: what is told, to whom, and what it costs who is slow."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from server.core import mine
from server.core.conversations import Ask, Conversations, Regenerate
from server.core.errors import Code, problem_of
from server.core.turns.placement import Utterance
from server.live.news import ConversationEvent, News, Resync
from server.live.turn import Ended, Started
from server.live.waiting import LONGEST_PROMPT, MOST_TOLD, QueueChanged, Waiting, WithdrawnError
from server.upstream.port import UpstreamOverflowError
from storage.model import Role, Status
from storage.parts import Kind, Part
from storage.port import NotFoundError
from tests.server.core.following import answered, asked, ended, in_line, settled
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import Puppet


class Heard:
    """Somebody who watches all, and what they have heard; those who read are one by one."""

    def __init__(self, conversations: Conversations, owner: str = ADA) -> None:
        self._events = conversations.watch_all(owner)
        self.all: list[News] = []

    async def next(self) -> News:
        async with asyncio.timeout(20):
            self.all.append(await anext(self._events))
        return self.all[-1]

    async def until(self, kind: str) -> list[str]:
        """Return what was heard up to an event of this kind, and that."""
        heard: list[str] = []
        while not heard or heard[-1] != kind:
            heard.append(named(await self.next()))
        return heard

    async def rest(self) -> list[str]:
        return [named(event) async for event in self._events]

    async def leave(self) -> None:
        await self._events.aclose()


def named(event: News) -> str:
    match event:
        case ConversationEvent(fate, conversation):
            return f"{fate} {conversation.id}"
        case Started(turn):
            return f"started {turn.conversation_id}"
        case Ended(turn):
            return f"{turn.status} {turn.conversation_id}"
        case QueueChanged(conversation_id, line):
            told = ", ".join(one.prompt for one in line.waiting)
            return f"queue {conversation_id}: {told}"
        case Resync():
            return "resync"
    raise AssertionError(event)


def line_of(heard: Heard) -> tuple[Waiting, ...]:
    return next(e.line.waiting for e in reversed(heard.all) if isinstance(e, QueueChanged))


class TestWhatIsTold:
    async def test_a_first_question_makes_a_conversation_and_its_title(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        heard = Heard(conversations)
        await answered(conversations, upstream, "Yes", "Are you there?")
        assert await heard.until("completed c") == [
            *("created c", "started c", "updated c", "completed c")
        ]
        made, started, updated, over = heard.all
        assert isinstance(made, ConversationEvent)
        assert isinstance(started, Started)
        assert isinstance(updated, ConversationEvent)
        assert isinstance(over, Ended)
        assert made.conversation.title == "Are you there?"
        assert (started.turn.status, started.turn.answer) == (Status.RUNNING, "")
        assert (updated.conversation.message_count, over.turn.answer) == (2, "Yes")
        assert updated.conversation == await conversations.get(ADA, "c")
        assert updated.conversation.last_message_at == over.turn.ended_at

    async def test_an_end_says_how_far_all_parts_go_and_holds_no_tools(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        heard = Heard(conversations)
        upstream.say(Part(Kind.REASONING), "Hm.", Part(Kind.TEXT), "Yes").finish()
        tools = [{"type": "function", "function": {"name": "look"}}]
        await asked(conversations, Ask("Are you there?", options={"tools": tools}))
        await heard.until("completed c")
        over = heard.all[-1]
        assert isinstance(over, Ended)
        assert (over.turn.answer, over.cursor) == ("Yes", len("_Hm._Yes"))
        assert not any(e.turn.options for e in heard.all if isinstance(e, Started | Ended))

    async def test_items_make_change_and_untitle_a_conversation(
        self, parroted: Conversations
    ) -> None:
        heard, items = Heard(parroted), parroted.items
        made = await items.create(ADA, {}, [Utterance(Role.USER, "Hello")])
        await heard.until(f"created {made.id}")
        await heard.until(f"updated {made.id}")
        (said,) = await items.add(ADA, made.id, [Utterance(Role.USER, "More")])
        await heard.until(f"updated {made.id}")
        first = await parroted.responses.message(ADA, said.parent_id or "")
        await items.erase(ADA, first, None)
        await heard.until(f"updated {made.id}")
        changed = heard.all[-1]
        assert isinstance(changed, ConversationEvent)
        assert (changed.conversation.title, changed.conversation.message_count) == ("", 2)

    async def test_a_conversation_is_made_changed_pinned_and_deleted(
        self, parroted: Conversations
    ) -> None:
        heard = Heard(parroted)
        await parroted.create(ADA, id="c")
        assert await heard.until("created c") == ["created c"]
        await parroted.update(ADA, "c", {"title": "New", "pinned": True})
        assert await heard.until("updated c") == ["updated c"]
        changed = heard.all[-1]
        assert isinstance(changed, ConversationEvent)
        assert (changed.conversation.title, changed.conversation.pinned) == ("New", True)
        await asked(parroted)
        assert (await heard.until("completed c"))[0] == "updated c", "it was there already"
        there = await parroted.get(ADA, "c")
        await parroted.delete(ADA, "c")
        assert await heard.until("deleted c") == ["deleted c"]
        gone = heard.all[-1]
        assert isinstance(gone, ConversationEvent)
        assert gone.conversation == there

    async def test_a_deletion_tells_the_end_of_what_it_cancels(
        self, conversations: Conversations
    ) -> None:
        heard = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("Hello"))
        await conversations.delete(ADA, "c")
        told = await heard.until("deleted c")
        assert told[-2:] == ["cancelled c", "deleted c"]

    async def test_another_answer_is_told_as_any(self, parroted: Conversations) -> None:
        await asked(parroted)
        heard = Heard(parroted)
        await ended(parroted, await parroted.regenerate(ADA, "c", Regenerate()))
        told = await heard.until("completed c")
        assert told == ["updated c", "started c", "updated c", "completed c"]

    async def test_an_import_tells_what_is_new_and_what_has_more(
        self, parroted: Conversations
    ) -> None:
        await asked(parroted, into="old")
        whole = b"".join([piece async for piece in parroted.export(ADA, "json")])
        await parroted.update(ADA, "old", {"pinned": True})
        pinned = b"".join([piece async for piece in parroted.export(ADA, "json")])
        await parroted.delete(ADA, "old")
        heard = Heard(parroted)
        for file, told in ((pinned, ["created old"]), (whole, []), (pinned, [])):
            await parroted.import_(ADA, _pieces(file))
            await parroted.create(ADA, id="mark")
            assert await heard.until("created mark") == [*told, "created mark"]
            await parroted.delete(ADA, "mark")
            await heard.until("deleted mark")
        assert (await parroted.get(ADA, "old")).pinned
        await asked(parroted, into="old")
        more = b"".join([piece async for piece in parroted.export(ADA, "json")])
        await parroted.delete(ADA, "old")
        await parroted.import_(ADA, _pieces(whole))
        await heard.until("created old")
        await parroted.import_(ADA, _pieces(more))
        assert await heard.until("updated old") == ["updated old"]

    async def test_a_turn_that_is_taken_back_takes_what_it_made(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        heard = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("Too long"))
        await upstream.asked(1)
        upstream.fail(UpstreamOverflowError("It is too long.", 400))
        assert (await heard.until("failed c"))[-2:] == ["deleted c", "failed c"]
        with pytest.raises(NotFoundError):
            await conversations.get(ADA, "c")

    async def test_another_owner_hears_nothing(self, parroted: Conversations) -> None:
        hers, his = Heard(parroted), Heard(parroted, BOB)
        await asked(parroted)
        await parroted.delete(ADA, "c")
        await hers.until("deleted c")
        await parroted.create(BOB, id="his")
        assert await his.until("created his") == ["created his"]

    async def test_one_who_comes_later_begins_with_what_runs_and_waits(
        self, conversations: Conversations
    ) -> None:
        await conversations.ask(ADA, "c", Ask("First"))
        waiting = await in_line(conversations, "Second")
        heard = Heard(conversations)
        assert [named(await heard.next()) for _ in range(2)] == ["started c", "queue c: Second"]
        waiting.cancel()
        assert await heard.until("queue c: ") == ["queue c: "]

    async def test_nothing_is_told_twice_to_one_who_comes_while_it_is_told(
        self, conversations: Conversations
    ) -> None:
        first = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("First"))
        second = Heard(conversations)  # the note of the beginning was not read yet
        await conversations.create(ADA, id="mark")
        for heard in (first, second):
            told = await heard.until("created mark")
            assert told.count("started c") == 1

    async def test_a_drain_tells_the_ends_and_then_no_more(
        self, conversations: Conversations
    ) -> None:
        heard = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("Hello"))
        waiting = await in_line(conversations, "Second")
        await conversations.drain(0)
        told = await heard.rest()
        assert "queue c: " in told
        assert told[-1] == "interrupted c"
        assert problem_of(waiting.exception() or OSError()).code is Code.DRAINING
        assert await Heard(conversations).rest() == []

    async def test_a_change_is_told_though_its_caller_has_left(
        self, conversations: Conversations
    ) -> None:
        heard = Heard(conversations)
        making = asyncio.create_task(conversations.create(ADA, id="c"))
        await asyncio.sleep(0)
        making.cancel()
        assert await heard.until("created c") == ["created c"]


class TestTheQueue:
    async def test_its_changes_are_told_with_who_waits(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        heard = Heard(conversations)
        turn = await conversations.ask(ADA, "c", Ask("First"))
        second = await in_line(conversations, "Second " + "x" * LONGEST_PROMPT)
        third = await in_line(conversations, "Third")
        await heard.until(f"queue c: {('Second ' + 'x' * LONGEST_PROMPT)[:LONGEST_PROMPT]}, Third")
        one = line_of(heard)[0]
        assert (one.id.startswith("wait_"), one.wire) == (True, "internal")
        assert one.since >= turn.created_at
        upstream.finish()
        await heard.until("queue c: Third")
        third.cancel()
        await heard.until("queue c: ")
        assert (await second).status is Status.RUNNING

    async def test_a_long_one_is_told_in_part_and_counted(
        self, conversations: Conversations
    ) -> None:
        await conversations.ask(ADA, "c", Ask("First"))
        tasks = [
            asyncio.create_task(conversations.ask(ADA, "c", Ask(str(number))))
            for number in range(MOST_TOLD + 5)
        ]
        await settled()
        heard = Heard(conversations)
        await heard.until("started c")
        told = await heard.next()
        assert isinstance(told, QueueChanged)
        assert (len(told.line.waiting), told.line.count) == (MOST_TOLD, MOST_TOLD + 5)
        for task in tasks:
            task.cancel()

    async def test_who_watches_the_conversation_is_told_beside_its_turns(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        await conversations.ask(ADA, "c", Ask("First"))
        await in_line(conversations, "Second")
        async with aclosing(conversations.watch(ADA, "c")) as events:
            assert isinstance(await anext(events), Started)
            assert named(await anext(events)) == "queue c: Second"
            third = await in_line(conversations, "Third")
            assert named(await anext(events)) == "queue c: Second, Third"
            third.cancel()
            assert named(await anext(events)) == "queue c: Second"
            upstream.finish()
            told = [named(await anext(events)) for _ in range(3)]
            assert sorted(told) == sorted(["completed c", "queue c: ", "started c"])

    async def test_who_wants_turns_alone_is_not(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        await conversations.ask(ADA, "c", Ask("First"))
        await in_line(conversations, "Second")
        async with aclosing(conversations.watch(ADA, "c", queue=False)) as events:
            told = [named(await anext(events))]  # a watch begins with what runs by then
            upstream.finish()
            told += [named(await anext(events)) for _ in range(2)]
            assert told == ["started c", "completed c", "started c"]


class TestTakingBack:
    async def test_who_asked_is_refused_with_that_reason(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        heard = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("First"))
        second, third = [await in_line(conversations, word) for word in ("Second", "Third")]
        await heard.until("queue c: Second, Third")
        await conversations.withdraw(ADA, "c", line_of(heard)[0].id)
        await heard.until("queue c: Third")
        with pytest.raises(WithdrawnError, match="taken back") as refused:
            await second
        problem = problem_of(refused.value)
        assert (problem.code, problem.retry_after) == (Code.CONVERSATION_BUSY, None)
        upstream.finish()
        assert (await third).status is Status.RUNNING
        assert len(upstream.prompts) <= 2

    async def test_nobody_takes_back_twice_or_what_is_anothers(
        self, conversations: Conversations
    ) -> None:
        heard = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("First"))
        await conversations.ask(BOB, "c", Ask("First"))
        await conversations.ask(ADA, "other", Ask("First"))
        waiting = await in_line(conversations, "Second")
        await heard.until("queue c: Second")
        id_ = line_of(heard)[0].id
        for owner, place in ((BOB, "c"), (ADA, "other"), (ADA, "nowhere")):
            with pytest.raises(NotFoundError):
                await conversations.withdraw(owner, place, id_)
        assert not waiting.done()
        await conversations.withdraw(ADA, "c", id_)
        with pytest.raises(NotFoundError):
            await conversations.withdraw(ADA, "c", id_)
        with pytest.raises(WithdrawnError):
            await waiting

    async def test_one_that_was_called_is_not_taken_back(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        heard = Heard(conversations)
        turn = await conversations.ask(ADA, "c", Ask("First"))
        waiting = await in_line(conversations, "Second")
        await heard.until("queue c: Second")
        id_ = line_of(heard)[0].id
        upstream.finish()
        await ended(conversations, turn)
        await heard.until("queue c: ")
        with pytest.raises(NotFoundError):
            await conversations.withdraw(ADA, "c", id_)
        assert (await waiting).status is Status.RUNNING

    async def test_those_who_share_a_key_share_the_question(
        self, conversations: Conversations
    ) -> None:
        heard = Heard(conversations)
        await conversations.ask(ADA, "c", Ask("First"))
        askers = [await in_line(conversations, "Second", idempotency_key="k") for _ in range(3)]
        await heard.until("queue c: Second")
        (one,) = line_of(heard)
        await conversations.withdraw(ADA, "c", one.id)
        results = await asyncio.gather(*askers, return_exceptions=True)
        assert [type(result) for result in results] == [WithdrawnError] * 3
        again = await in_line(conversations, "Second", idempotency_key="k")
        assert await heard.until("queue c: Second")
        again.cancel()


class TestWhoIsSlow:
    async def test_one_who_falls_behind_is_told_so_and_what_runs(
        self, parroted: Conversations
    ) -> None:
        slow, quick = Heard(parroted), Heard(parroted)
        await asked(parroted)
        await slow.next()
        await quick.until("completed c")
        for number in range(mine.MOST_EVENTS):
            await parroted.update(ADA, "c", {"title": str(number)})
            await quick.until("updated c")
        assert named(await slow.next()) == "resync"
        await parroted.create(ADA, id="mark")
        assert await slow.until("created mark") == ["created mark"]

    async def test_answers_are_held_up_to_so_many_characters(
        self, conversations: Conversations, upstream: Puppet
    ) -> None:
        slow, quick = Heard(conversations), Heard(conversations)
        for _ in range(3):
            await answered(conversations, upstream, "x" * (mine.MOST_CHARACTERS // 2))
            await quick.until("completed c")
        feed = feeds(conversations)[ADA]
        held = sum(len(one.turn.answer) for one in feed._events if isinstance(one, Ended))
        assert 0 < held <= mine.MOST_CHARACTERS
        assert named(await slow.next()) == "resync"

    async def test_what_nobody_hears_is_not_held(self, parroted: Conversations) -> None:
        heard, unread = Heard(parroted), Heard(parroted)
        await asked(parroted)
        await heard.until("completed c")
        await heard.leave()
        del heard, unread
        gc.collect()
        assert not feeds(parroted)
        before = await parroted.get(ADA, "c")
        await asked(parroted)
        assert (await parroted.get(ADA, "c")).message_count == before.message_count + 2

    async def test_who_leaves_while_nothing_happens_leaves_nothing(
        self, parroted: Conversations
    ) -> None:
        staying = Heard(parroted)
        for _ in range(20):
            leaving = parroted.watch_all(ADA)
            waiting = asyncio.ensure_future(anext(leaving))
            await settled()
            waiting.cancel()
            await settled()
        feed = feeds(parroted)[ADA]
        assert len(feed.growth) == 0
        await staying.leave()

    async def test_a_database_that_does_not_answer_costs_a_resync(
        self, parroted: Conversations
    ) -> None:
        await asked(parroted)
        heard = Heard(parroted)
        async with _away(parroted):
            await parroted.update(ADA, "c", {"title": "New"})
            assert named(await heard.next()) == "resync"
        await parroted.update(ADA, "c", {"title": "Newer"})
        assert await heard.until("updated c") == ["updated c"]

    async def test_a_thousand_who_watch_read_each_change_once(
        self, parroted: Conversations
    ) -> None:
        crowd = [Heard(parroted) for _ in range(1_000)]
        await parroted.create(ADA, id="c")
        events = [await one.next() for one in crowd]
        assert all(event is events[0] for event in events)


def feeds(conversations: Conversations) -> Mapping[str, mine.Feed]:
    """Return what is held for those who watch, by owner."""
    return conversations._following.mine._feeds


async def _pieces(file: bytes) -> AsyncGenerator[bytes, None]:
    yield file


@asynccontextmanager
async def _away(conversations: Conversations) -> AsyncGenerator[None, None]:
    """Let what happened be unreadable for a while."""
    reads: Any = conversations._following.mine
    store, reads._store = reads._store, None
    yield
    reads._store = store


def test_a_problem_of_another_kind_of_busy_still_says_when_to_come_back() -> None:
    taken_back = problem_of(WithdrawnError("Taken back."))
    assert replace(taken_back, retry_after=1.0) == problem_of(
        WithdrawnError.__mro__[1]("Taken back.")
    )

"""Tests of asking: one unbroken line whoever asks, whoever leaves and whoever interrupts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from server.app.core import core_of
from server.config.limits import TurnLimits
from server.core.conversations import Ask, Conversations, IfBusy, OnDisconnect
from server.core.turns.plan import Defaults
from server.live.turn import Started
from storage.model import Message, Status, Turn
from storage.port import BusyError, Claim, NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import (
    asked,
    asking,
    branch,
    ended,
    in_line,
    settled,
    until_text,
)
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import MODEL, Parrot, Puppet


async def test_200_who_ask_at_once_make_one_unbroken_line(
    parroted: Conversations, parrot: Parrot
) -> None:
    words = [f"question {number}" for number in range(200)]
    turns = await asyncio.gather(*(asking(parroted, one) for one in words))
    for turn in turns:
        assert (await ended(parroted, turn)).status is Status.COMPLETED

    kept = await branch(parroted)
    assert [message.content for message in kept[::2]] == words
    assert [message.content for message in kept[1::2]] == [f"{one} " for one in words]
    assert [message.parent_id for message in kept] == [None, *(m.id for m in kept[:-1])]
    assert [str(prompt.messages[-1].content) for prompt in parrot.prompts] == words
    assert (await parroted.get(ADA, "c")).message_count == 400


async def test_conversations_do_not_wait_for_each_other(
    conversations: Conversations, upstream: Puppet
) -> None:
    held = await conversations.ask(ADA, "held", Ask("Hello"))
    await conversations.ask(BOB, "held", Ask("Hello"))
    await conversations.ask(ADA, "other", Ask("Hello"))
    await upstream.asked(3)
    assert (await conversations.cancel(ADA, held.id)).status is Status.CANCELLED


async def test_rejecting_lets_one_in_and_keeps_nothing_of_the_others(
    conversations: Conversations, upstream: Puppet
) -> None:
    many = [asking(conversations, str(n), if_busy=IfBusy.REJECT) for n in range(20)]
    results = await asyncio.gather(*many, return_exceptions=True)
    assert [type(result) for result in results] == [Turn] + [BusyError] * 19
    assert (await conversations.get(ADA, "c")).message_count == 1

    upstream.answer("Hi")
    await ended(conversations, results[0])  # type: ignore[arg-type]
    upstream.answer("Hi again")
    await asked(conversations, Ask("now", if_busy=IfBusy.REJECT))


async def test_too_many_who_wait_are_refused(store: SQLiteStore, upstream: Puppet) -> None:
    defaults = Defaults(MODEL, limits=TurnLimits(waiting=3))
    async with core_of(store, upstream, defaults) as conversations:
        first = await conversations.ask(ADA, "c", Ask("first"))
        waiting = [await in_line(conversations, str(n)) for n in range(3)]
        with pytest.raises(BusyError):
            await conversations.ask(ADA, "c", Ask("one too many"))
        upstream.answer("a").answer("b").answer("c").answer("d")
        await ended(conversations, first)
        for task in waiting:
            await ended(conversations, await task)
        assert (await conversations.get(ADA, "c")).message_count == 8


async def test_an_asker_who_leaves_the_line_has_asked_nothing(
    conversations: Conversations, upstream: Puppet
) -> None:
    first = await conversations.ask(ADA, "c", Ask("first"))
    leaving, staying = [await in_line(conversations, name) for name in ("leaving", "staying")]
    leaving.cancel()
    upstream.answer("Hi").answer("Hi")
    await ended(conversations, first)
    await ended(conversations, await staying)
    assert [m.content for m in await branch(conversations)] == ["first", "Hi", "staying", "Hi"]


class SlowStore(SQLiteStore):
    """A store in which what was begun or claimed takes until `go_on` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.beginning, self.claiming, self.go_on = (asyncio.Event() for _ in range(3))

    async def begin(
        self,
        owner: str,
        turn: Turn,
        question: Message | None,
        **more: Any,
    ) -> Turn:
        self.beginning.set()
        await self.go_on.wait()
        return await super().begin(owner, turn, question, **more)

    async def claimed(self, owner: str, claim: Claim) -> str | None:
        self.claiming.set()
        await self.go_on.wait()
        return await super().claimed(owner, claim)


async def test_an_asker_who_leaves_while_it_is_stored_has_asked(
    tmp_path: Path, upstream: Puppet
) -> None:
    store = SlowStore(tmp_path / "slow.db")
    async with store, core_of(store, upstream, Defaults(MODEL)) as conversations:
        task = asking(conversations, "leaving")
        await store.beginning.wait()
        task.cancel()
        await settled()
        assert task.cancelled()
        store.go_on.set()
        upstream.answer("Hi").answer("Hi again")
        await asked(conversations, "next")
        assert [m.content for m in await branch(conversations)] == [
            "leaving",
            "Hi",
            "next",
            "Hi again",
        ]


async def test_one_who_leaves_then_and_wants_no_answer_gets_none(
    tmp_path: Path, upstream: Puppet
) -> None:
    store = SlowStore(tmp_path / "slow.db")
    async with store, core_of(store, upstream, Defaults(MODEL)) as conversations:
        leave = OnDisconnect.CANCEL
        ask = conversations.ask(ADA, "c", Ask("leaving"), on_leave=leave)
        task = asyncio.create_task(ask)
        await store.beginning.wait()
        task.cancel()
        await settled()
        store.go_on.set()
        turn = None
        while turn is None or turn.status is Status.RUNNING:
            await asyncio.sleep(0.01)
            with suppress(NotFoundError):
                turn = await store.last_turn(ADA, "c")
        assert turn.status is Status.CANCELLED


async def test_a_drain_does_not_wait_for_one_who_joins_the_line_late(
    tmp_path: Path, upstream: Puppet
) -> None:
    """They had asked before, and looked for their key while the others were sent away."""
    store = SlowStore(tmp_path / "slow.db")
    async with store, core_of(store, upstream, Defaults(MODEL)) as conversations:
        store.go_on.set()
        running = await conversations.ask(ADA, "c", Ask("running"))
        store.go_on.clear()
        late = asking(conversations, "late", idempotency_key="k")
        await store.claiming.wait()
        draining = asyncio.create_task(conversations.drain(0))
        await settled()
        store.go_on.set()
        done, _ = await asyncio.wait([draining], timeout=5)
        await conversations.cancel(ADA, running.id)
        await asyncio.gather(draining, late, return_exceptions=True)
        assert done


async def test_interrupting_ends_what_runs_and_keeps_its_text(
    conversations: Conversations, upstream: Puppet
) -> None:
    first = await conversations.ask(ADA, "c", Ask("first"))
    upstream.say("Half an ans")
    await until_text(conversations, first, "Half an ans")
    second = await conversations.ask(ADA, "c", Ask("second", if_busy=IfBusy.INTERRUPT))
    stopped = await conversations.turn(ADA, first.id)
    assert (stopped.status, stopped.answer) == (Status.CANCELLED, "Half an ans")
    assert second.parent_id == stopped.answer_id
    await upstream.asked(2)
    upstream.answer("Whole")
    assert (await ended(conversations, second)).status is Status.COMPLETED
    assert upstream.closed == 2


async def test_interrupting_goes_before_all_who_wait(
    conversations: Conversations, upstream: Puppet
) -> None:
    await conversations.ask(ADA, "c", Ask("first"))
    await upstream.asked(1)
    waiting = await in_line(conversations, "waiting")
    urgent = await conversations.ask(ADA, "c", Ask("urgent", if_busy=IfBusy.INTERRUPT))
    assert not waiting.done()
    await upstream.asked(2)
    upstream.answer("Hi").answer("Hi")
    await ended(conversations, urgent)
    await ended(conversations, await waiting)
    questions = [m.content for m in await branch(conversations) if m.turn_id and m.model is None]
    assert questions == ["first", "urgent", "waiting"]


async def test_interrupting_where_nothing_runs_is_asking(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.answer("Hi")
    turn = await asked(conversations, Ask("Hello", if_busy=IfBusy.INTERRUPT))
    assert turn.status is Status.COMPLETED


async def test_of_two_who_interrupt_the_later_has_the_last_word(
    conversations: Conversations, upstream: Puppet
) -> None:
    await conversations.ask(ADA, "c", Ask("first"))
    await upstream.asked(1)
    both = [asking(conversations, name, if_busy=IfBusy.INTERRUPT) for name in ("early", "late")]
    early, late = await asyncio.gather(*both)
    await upstream.asked(2)
    assert (await ended(conversations, early)).status is Status.CANCELLED
    upstream.answer("Hi")
    assert (await ended(conversations, late)).status is Status.COMPLETED


async def test_many_who_interrupt_at_once_all_get_an_end(parroted: Conversations) -> None:
    many = [asking(parroted, str(n), if_busy=IfBusy.INTERRUPT) for n in range(30)]
    ends = [await ended(parroted, turn) for turn in await asyncio.gather(*many)]
    assert {turn.status for turn in ends} <= {Status.COMPLETED, Status.CANCELLED}
    assert ends[-1].status is Status.COMPLETED
    assert (await asked(parroted, "after")).status is Status.COMPLETED


async def test_a_turn_begins_as_it_is_told(conversations: Conversations) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hello"))
    first = await anext(conversations.follow(ADA, turn.id))
    assert isinstance(first, Started)
    assert first.turn == turn == await conversations.turn(ADA, turn.id)
    assert turn.status is Status.RUNNING
    assert (turn.answer, turn.answer_id, turn.ended_at) == ("", None, None)

"""Turns that nothing keeps, and free ones: the same code, with less of a trace."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from server.app.core import core_of
from server.config.limits import TurnLimits
from server.config.quantities import Budget
from server.core.conversations import Ask, Conversations, Defaults
from server.core.errors import DrainingError, QuotaSpentError, RateLimitedError
from server.core.ids import NEW
from server.core.turns.placement import Utterance
from server.core.turns.questions import ROOT, Responding
from server.live.turn import Ended
from storage.model import Role, Status, Turn
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.support.fakes import MODEL, Parrot, Puppet


def question(text: str = "Hello", parent: str = ROOT, *, free: bool = False) -> Ask:
    said = (Utterance(Role.USER, text),)
    return Ask(text, parent_id=parent, response=Responding(said, free=free))


async def end_of(conversations: Conversations, turn: Turn, *, said: bool = False) -> Turn:
    following = conversations.responses.follow("ada", turn.id, said=said)
    async with aclosing(following) as events:
        async for event in events:
            if isinstance(event, Ended):
                return event.turn
    raise AssertionError("no end")


async def test_of_what_is_said_nothing_is_kept(store: SQLiteStore, parroted: Conversations) -> None:
    turn = await parroted.responses.say("ada", NEW, question())
    ended = await end_of(parroted, turn, said=True)
    assert (ended.status, ended.answer) == (Status.COMPLETED, "Hello ")
    for missing in (parroted.turn("ada", turn.id), parroted.responses.turn("ada", turn.id)):
        with pytest.raises(NotFoundError):
            await missing
    assert (await store.conversations("ada", limit=9)).items == ()
    assert await store.expired(1 << 60, limit=9) == []
    assert ended.usage is not None
    assert ended.ended_at is not None
    assert await store.spent("ada", ended.ended_at) == ended.usage.total_tokens


async def test_one_that_has_ended_before_it_is_followed_is_heard(
    parroted: Conversations,
) -> None:
    turn = await parroted.responses.say("ada", NEW, question())
    while parroted.running:
        await asyncio.sleep(0)
    assert (await end_of(parroted, turn, said=True)).answer == "Hello "
    with pytest.raises(NotFoundError):
        await parroted.turn("ada", turn.id)


async def test_it_ends_with_its_follower(store: SQLiteStore) -> None:
    async with core_of(store, Puppet(), Defaults(MODEL)) as conversations:
        turn = await conversations.responses.say("ada", NEW, question())
        following = conversations.responses.follow("ada", turn.id, said=True)
        await anext(following)
        await following.aclose()
        while conversations.running:
            await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            await conversations.turn("ada", turn.id)


async def test_several_run_beside_each_other_and_give_back_their_room(store: SQLiteStore) -> None:
    defaults = Defaults(MODEL, limits=TurnLimits(running=2))
    async with core_of(store, Puppet(), defaults) as conversations:
        for _ in range(2):
            said = [await conversations.responses.say("ada", NEW, question()) for _ in range(2)]
            for turn in said:
                await conversations.cancel("ada", turn.id)
                assert (await end_of(conversations, turn, said=True)).status is Status.CANCELLED
            while conversations.running:
                await asyncio.sleep(0)


async def test_it_counts_in_every_bound(store: SQLiteStore) -> None:
    limits = TurnLimits(running=1)
    defaults = Defaults(MODEL, limits=limits, budget=Budget(30, "day"))
    async with core_of(store, Puppet(), defaults) as conversations:
        await conversations.responses.say("ada", NEW, question())
        with pytest.raises(RateLimitedError):
            await conversations.responses.say("ada", NEW, question())
        await conversations.drain(0)
        with pytest.raises(DrainingError):
            await conversations.responses.say("ada", NEW, question())
    async with core_of(store, Parrot(), defaults) as conversations:
        turn = await conversations.responses.say("ada", NEW, question("word " * 40))
        await end_of(conversations, turn, said=True)
        with pytest.raises(QuotaSpentError):
            await conversations.responses.say("ada", NEW, question())


async def test_a_deletion_waits_for_free_turns_too(store: SQLiteStore) -> None:
    async with core_of(store, Parrot(), Defaults(MODEL)) as conversations:
        first = await end_of(
            conversations, await conversations.responses.begin("ada", NEW, question())
        )
    place, parent = first.conversation_id, first.answer_id or ""
    async with core_of(store, Puppet(), Defaults(MODEL)) as conversations:
        free = [
            await conversations.responses.begin("ada", place, question("x", parent, free=True))
            for _ in range(3)
        ]
        await conversations.ask("ada", place, Ask("beside them"))
        assert conversations.running == 4
        await conversations.delete("ada", place)
        assert conversations.running == 0
        for turn in free:
            with pytest.raises(NotFoundError):
                await conversations.turn("ada", turn.id)

"""Turns have places in a room that owners share; who is refused one has asked nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.app.core import core_of
from server.config.limits import UpstreamLimits
from server.core.conversations import Ask, Conversations, Defaults, IfBusy, Regenerate
from server.core.errors import ContextLengthError, CrowdedError
from server.core.prompt.compose import CountingSettings
from storage.model import Status
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import ended, in_line
from tests.server.core.slow_deletion import SlowDeletion
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import MODEL, Puppet

#: Two places: one for each of two owners.
DEFAULTS = Defaults(
    MODEL, counting=CountingSettings(window=200, max_tokens=50), upstreams=UpstreamLimits(answers=2)
)


@pytest.fixture
async def core(store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Conversations]:
    async with core_of(store, upstream, DEFAULTS) as opened:
        yield opened


async def test_who_is_refused_has_asked_nothing(core: Conversations, upstream: Puppet) -> None:
    first = await core.ask(ADA, "a", Ask("Hello"))
    for how in IfBusy:
        with pytest.raises(CrowdedError):
            await core.ask(ADA, "b", Ask("Hello", if_busy=how, idempotency_key="once"))
    with pytest.raises(NotFoundError):
        await core.get(ADA, "b")
    upstream.answer("Hi")
    await ended(core, first)
    # The key was not used up by what was refused.
    upstream.answer("Hi")
    await ended(core, await core.ask(ADA, "b", Ask("Hello", idempotency_key="once")))
    assert (await core.get(ADA, "b")).message_count == 2


async def test_another_answer_needs_a_place_too(core: Conversations, upstream: Puppet) -> None:
    upstream.answer("Hi")
    await ended(core, await core.ask(ADA, "a", Ask("Hello")))
    running = await core.ask(ADA, "b", Ask("Hello"))
    with pytest.raises(CrowdedError):
        await core.regenerate(ADA, "a", Regenerate())
    await core.cancel(ADA, running.id)
    await core.regenerate(ADA, "a", Regenerate())


async def test_many_who_ask_at_the_same_moment_get_no_more_places(core: Conversations) -> None:
    asks = (core.ask(ADA, f"c{n}", Ask("Hello")) for n in range(20))
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert [type(one) for one in results[1:]] == [CrowdedError] * 19
    await core.ask(BOB, "c", Ask("Hello"))


async def test_who_waits_or_interrupts_takes_over_the_place(
    core: Conversations, upstream: Puppet
) -> None:
    await core.ask(ADA, "c", Ask("first"))
    waiting = await in_line(core, "waiting")
    await core.ask(BOB, "c", Ask("Hello"))  # all places are taken now
    urgent = await core.ask(ADA, "c", Ask("urgent", if_busy=IfBusy.INTERRUPT))
    await core.cancel(ADA, urgent.id)
    last = await waiting
    await core.cancel(ADA, last.id)
    await core.ask(ADA, "other", Ask("Hello"))


async def test_a_beginning_that_fails_gives_its_place_back(core: Conversations) -> None:
    for _ in range(3):
        with pytest.raises(ContextLengthError):
            await core.ask(ADA, "c", Ask("word " * 1000))
    await core.ask(ADA, "c", Ask("Hello"))


async def test_who_leaves_when_it_is_called_leaves_its_room(
    core: Conversations, upstream: Puppet
) -> None:
    await core.ask(ADA, "c", Ask("first"))
    waiting = await in_line(core, "waiting")
    upstream.answer("Hi")
    while core._following._live.waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await core.ask(ADA, "other", Ask("Hello"))


async def test_a_deletion_needs_no_place_and_leaves_none(tmp_path: Path, upstream: Puppet) -> None:
    store = SlowDeletion(tmp_path / "slow.db")
    async with store, core_of(store, upstream, DEFAULTS) as core:
        await core.create(ADA, id="old")
        await core.ask(BOB, "b", Ask("Hello"))
        running = await core.ask(ADA, "a", Ask("Hello"))
        deleting = asyncio.create_task(core.delete(ADA, "old"))
        await store.deleting.wait()
        behind = await in_line(core, "Hello", into="old")
        store.go_on.set()
        await deleting
        with pytest.raises(CrowdedError):
            await behind
        await core.delete(ADA, "a")  # with the turn that runs in it
        with pytest.raises(NotFoundError):
            await core.turn(ADA, running.id)
        await core.ask(ADA, "new", Ask("Hello"))


async def test_one_alone_may_have_all(store: SQLiteStore, upstream: Puppet) -> None:
    async with core_of(store, upstream, DEFAULTS, shared=lambda: False) as core:
        for name in "ab":
            turn = await core.ask(ADA, name, Ask("Hello"))
            assert turn.status is Status.RUNNING
        with pytest.raises(CrowdedError, match="All places"):
            await core.ask(BOB, "c", Ask("Hello"))

"""Tests of running turns while the database is away, and of what is kept meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations
from server.core.errors import problem_of
from server.core.turns.checkpoint import CHECKPOINT_SECONDS
from server.core.turns.plan import Defaults
from server.live.turn import Ended
from storage.model import Status, Turn
from storage.port import Outcome, Piece, UnavailableError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked, ended, gathered, settled, until_text
from tests.storage.nouns import ADA
from tests.support.fakes import MODEL, Puppet


class Unreliable(SQLiteStore):
    """A store that is away for so many calls of a kind; what it does keep is kept as ever."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = {"begin": 0, "end": 0, "checkpoint": 0}
        self.refused = asyncio.Event()
        self.tried, self.checkpointed = asyncio.Event(), asyncio.Event()

    def _be_away(self, call: str) -> None:
        if self.away[call]:
            self.away[call] -= 1
            self.refused.set()
            raise UnavailableError("The database cannot be used now: disk full.")

    async def begin(self, *words: Any, **more: Any) -> Turn:
        self._be_away("begin")
        return await super().begin(*words, **more)

    async def end(self, owner: str, turn_id: str, outcome: Outcome) -> Turn:
        self._be_away("end")
        return await super().end(owner, turn_id, outcome)

    async def checkpoint(self, pieces: Sequence[Piece]) -> None:
        self._be_away("checkpoint")
        self.tried.set()
        await super().checkpoint(pieces)
        self.checkpointed.set()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Unreliable]:
    opened = Unreliable(tmp_path / "trialogue.db")
    async with opened:
        yield opened


def on_disk(store: SQLiteStore, sql: str) -> list[tuple[Any, ...]]:
    """Read what is kept as another program would."""
    other = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    try:
        return other.execute(sql).fetchall()
    finally:
        other.close()


async def test_an_end_is_kept_when_the_database_is_back(
    conversations: Conversations, upstream: Puppet, store: Unreliable
) -> None:
    store.away["end"] = 3
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    follower = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    upstream.answer("Hello")
    await store.refused.wait()
    assert not follower.done()  # nobody hears of an end that is not kept
    assert (await conversations.turn(ADA, turn.id)).status is Status.RUNNING
    await follower
    done = await conversations.turn(ADA, turn.id)
    assert (done.status, done.answer) == (Status.COMPLETED, "Hello")
    assert on_disk(store, "SELECT status FROM turns") == [("completed",)]
    upstream.answer("Hello again")
    await asked(conversations, "Again")


async def test_a_cancelled_turn_waits_for_the_database_too(
    conversations: Conversations, upstream: Puppet, store: Unreliable
) -> None:
    store.away["end"] = 2
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    assert (await conversations.cancel(ADA, turn.id)).status is Status.CANCELLED
    assert on_disk(store, "SELECT status FROM turns") == [("cancelled",)]


async def test_a_drain_gives_up_on_a_database_that_stays_away(
    conversations: Conversations, upstream: Puppet, store: Unreliable
) -> None:
    store.away["end"] = 1_000_000
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    follower = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    upstream.answer("Hello")
    await store.refused.wait()
    await conversations.drain(0)
    last = (await follower)[-1]
    assert isinstance(last, Ended)
    assert last.turn.error is not None
    assert last.turn.error.code == "storage_unavailable"
    assert conversations.running == 0
    assert on_disk(store, "SELECT status FROM turns") == [("running",)]

    store.away["end"] = 0
    async with core_of(store, Puppet(), Defaults(MODEL)) as next_start:
        assert (await next_start.turn(ADA, turn.id)).status is Status.INTERRUPTED


async def test_an_ask_while_the_database_is_away_is_refused_and_harms_no_later_one(
    conversations: Conversations, upstream: Puppet, store: Unreliable
) -> None:
    store.away["begin"] = 1
    with pytest.raises(UnavailableError) as refused:
        await conversations.ask(ADA, "c", Ask("Hi", idempotency_key="k"))
    assert problem_of(refused.value).retry_after
    assert conversations.running == 0
    upstream.answer("Hello")
    await asked(conversations, Ask("Hi", idempotency_key="k"))
    assert len(upstream.prompts) == 1


async def test_a_running_answer_is_kept_within_a_second(
    conversations: Conversations, upstream: Puppet, store: Unreliable
) -> None:
    assert CHECKPOINT_SECONDS < 1
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    for said in ("Hello 🙂 ", "world"):
        upstream.say(said)
        store.checkpointed.clear()
        await store.checkpointed.wait()
    kept = on_disk(store, "SELECT text FROM checkpoints ORDER BY position")
    assert "".join(text for (text,) in kept) == "Hello 🙂 world"
    upstream.finish()
    assert (await ended(conversations, turn)).answer == "Hello 🙂 world"
    assert on_disk(store, "SELECT * FROM checkpoints") == []


async def test_a_checkpoint_that_failed_is_made_up_for_by_the_next(
    conversations: Conversations, upstream: Puppet, store: Unreliable
) -> None:
    store.away["checkpoint"] = 1
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    upstream.say("Hello ")
    await store.refused.wait()
    upstream.say("world")
    await until_text(conversations, turn, "Hello world")
    store.checkpointed.clear()
    await store.checkpointed.wait()
    kept = on_disk(store, "SELECT text FROM checkpoints ORDER BY position")
    assert "".join(text for (text,) in kept) == "Hello world"
    await conversations.cancel(ADA, turn.id)


async def test_a_text_that_cannot_be_kept_does_not_block_its_conversation(
    conversations: Conversations, upstream: Puppet
) -> None:
    """No upstream may say half of a surrogate pair; one that does is our bug, and no more."""
    upstream.answer("\ud800")
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    last = (await gathered(conversations.follow(ADA, turn.id)))[-1]
    assert isinstance(last, Ended)
    assert last.turn.status is Status.FAILED
    upstream.answer("Better")
    assert (await asked(conversations, "Again")).answer == "Better"


async def test_an_upstream_that_breaks_while_it_is_stopped_still_ends(store: Unreliable) -> None:
    class Stubborn(Puppet):
        async def complete(self, prompt: Any) -> Any:
            try:
                async for piece in super().complete(prompt):
                    yield piece
            finally:
                raise OSError("connection lost while closing")

    upstream = Stubborn()
    async with core_of(store, upstream, Defaults(MODEL)) as conversations:
        turn = await conversations.ask(ADA, "c", Ask("Hi"))
        upstream.say("Half")
        await until_text(conversations, turn, "Half")
        done = await conversations.cancel(ADA, turn.id)
        await settled()
        assert (done.status, done.answer) == (Status.CANCELLED, "Half")
        assert conversations.running == 0

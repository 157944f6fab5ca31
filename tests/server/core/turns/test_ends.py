"""Tests of how turns end: by themselves, cancelled, failed, drained, or found after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations
from server.core.errors import DrainingError
from server.core.turns.plan import Defaults
from server.upstream.port import (
    UpstreamFailedError,
    UpstreamOverflowError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from storage.model import Failure, Role, Status, Usage
from storage.port import Piece
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import (
    answered,
    asked,
    branch,
    ended,
    gathered,
    in_line,
    settled,
    text_of,
    until_text,
)
from tests.storage.nouns import ADA, BOB, begin
from tests.support.fakes import MODEL, Parrot, Puppet

INTERNAL = Failure("internal", "Something went wrong on our side.")

# The end of a turn


async def test_an_answer_is_kept_with_what_the_upstream_says_of_it(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.say("Hel", "lo").finish("length", Usage(11, 7))
    done = await asked(conversations, "Hi")
    assert (done.status, done.answer, done.finish_reason) == (Status.COMPLETED, "Hello", "length")
    assert done.usage == Usage(11, 7)
    answer = (await branch(conversations))[-1]
    assert (answer.id, answer.role, answer.content) == (done.answer_id, Role.ASSISTANT, "Hello")
    assert answer.tokens == 1


async def test_what_the_upstream_does_not_say_is_counted(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.answer("Hello")
    done = await asked(conversations, "Hi")
    assert done.usage == Usage(done.context.prompt_tokens, 1)


async def test_an_empty_answer_is_an_answer(conversations: Conversations, upstream: Puppet) -> None:
    upstream.finish()
    done = await asked(conversations, "Hi")
    assert (done.status, done.answer) == (Status.COMPLETED, "")
    assert done.answer_id is not None


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ZeroDivisionError("inner words"), INTERNAL),
        (UpstreamFailedError("It broke."), Failure("upstream_failed", "It broke.")),
        (UpstreamTimeoutError("Too slow."), Failure("upstream_timeout", "Too slow.")),
        (UpstreamRejectedError("No.", 404), Failure("upstream_rejected", "No.", 404)),
        (UpstreamRateLimitedError("Slow."), Failure("rate_limit_exceeded", "Slow.")),
        (
            ZeroDivisionError("inner words"),
            Failure("internal", "Something went wrong on our side."),
        ),
    ],
)
@pytest.mark.parametrize("said", ["", "Half an ans"])
async def test_a_failure_is_an_end_and_the_text_is_kept(
    conversations: Conversations, upstream: Puppet, error: Exception, failure: Failure, said: str
) -> None:
    (upstream.say(said) if said else upstream).fail(error)
    done = await asked(conversations, "Hi")
    assert (done.status, done.error, done.answer) == (Status.FAILED, failure, said)
    assert (done.answer_id is not None) == bool(said)
    upstream.answer("Better")
    assert (await asked(conversations, "Again")).status is Status.COMPLETED


async def test_a_window_that_is_full_in_mid_answer_takes_nothing_back(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.say("Half an ans").fail(UpstreamOverflowError("It is too long.", 400))
    done = await asked(conversations, "Hi")
    assert done.error == Failure("context_length_exceeded", "It is too long.", 400)
    assert (done.status, done.answer) == (Status.FAILED, "Half an ans")
    assert [one.content for one in await branch(conversations)] == ["Hi", "Half an ans"]


async def test_an_answer_that_stops_without_an_end_is_cut_off(store: SQLiteStore) -> None:
    class Mumbling(Parrot):
        async def complete(self, prompt: Any) -> Any:
            yield "Half"

    async with core_of(store, Mumbling(), Defaults(MODEL)) as conversations:
        done = await asked(conversations, "Hi")
    assert done.status is Status.FAILED
    assert done.error is not None
    assert done.error.code == "upstream_failed"
    assert done.answer == "Half"


async def test_cancelling_settles_the_turn_and_stops_the_upstream(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    follower = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    upstream.say("Half")
    await until_text(conversations, turn, "Half")
    first, second = await asyncio.gather(*(conversations.cancel(ADA, turn.id) for _ in range(2)))
    assert first == second == await conversations.cancel(ADA, turn.id)
    assert (first.status, first.answer, first.error) == (Status.CANCELLED, "Half", None)
    assert text_of(await follower) == "Half"
    assert upstream.closed == 1


async def test_cancelling_at_once(conversations: Conversations, upstream: Puppet) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    done = await conversations.cancel(ADA, turn.id)
    assert (done.status, done.answer, done.answer_id) == (Status.CANCELLED, "", None)
    assert (await answered(conversations, upstream, "Hi")).status is Status.COMPLETED


async def test_cancelling_an_ended_turn_changes_nothing(parroted: Conversations) -> None:
    done = await asked(parroted, "Hi")
    assert await parroted.cancel(ADA, done.id) == done


async def test_a_running_turn_shows_its_answer_so_far(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    upstream.say("Half")
    await until_text(conversations, turn, "Half")
    so_far = await conversations.turn(ADA, turn.id)
    assert (so_far.status, so_far.answer, so_far.answer_id) == (Status.RUNNING, "Half", None)
    assert conversations.running == 1


# Drain and crash


async def test_a_drain_refuses_who_asks_and_who_waits(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    waiting = [
        await in_line(conversations, "waiting"),
        await in_line(conversations, "waiting with key", idempotency_key="k"),
    ]
    draining = asyncio.create_task(conversations.drain(60))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [DrainingError] * 2
    assert conversations.draining
    for refused in (conversations.ask(ADA, "new", Ask("Hi")), conversations.ready()):
        with pytest.raises(DrainingError):
            await refused
    upstream.answer("Whole")
    await draining
    done = await conversations.turn(ADA, turn.id)
    assert (done.status, done.answer) == (Status.COMPLETED, "Whole")
    assert (await conversations.get(ADA, "c")).message_count == 2


async def test_a_drain_interrupts_what_takes_too_long_and_keeps_its_text(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    upstream.say("Half")
    await until_text(conversations, turn, "Half")
    follower = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    await settled()
    await conversations.drain(0)
    done = await conversations.turn(ADA, turn.id)
    assert (done.status, done.answer) == (Status.INTERRUPTED, "Half")
    assert text_of(await follower) == "Half"
    assert conversations.running == 0


async def test_a_second_drain_cuts_the_first_one_short(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    patient = asyncio.create_task(conversations.drain(3600))
    await settled()
    await conversations.drain(0)
    await patient
    assert (await conversations.turn(ADA, turn.id)).status is Status.INTERRUPTED


async def test_turns_can_be_read_and_cancelled_during_a_drain(
    conversations: Conversations, upstream: Puppet
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    draining = asyncio.create_task(conversations.drain(3600))
    await settled()
    assert (await conversations.turn(ADA, turn.id)).status is Status.RUNNING
    assert (await conversations.cancel(ADA, turn.id)).status is Status.CANCELLED
    await draining


async def test_what_a_crash_left_running_is_interrupted_with_its_text(store: SQLiteStore) -> None:
    for owner, text in ((ADA, "Half 🙂 an"), (BOB, "")):
        await begin(store, owner=owner)
        await store.checkpoint([Piece(owner, "turn_1", 0, text)] if text else [])
    async with core_of(store, Parrot(), Defaults(MODEL)) as conversations:
        mine = await ended(conversations, await conversations.turn(ADA, "turn_1"))
        theirs = await conversations.turn(BOB, "turn_1")
        assert (mine.status, mine.answer) == (Status.INTERRUPTED, "Half 🙂 an")
        assert (theirs.status, theirs.answer, theirs.answer_id) == (Status.INTERRUPTED, "", None)
        assert await store.running() == []
        again = await asked(conversations, "Go on")
        assert again.parent_id == mine.answer_id

"""Tests of the life of turns and conversations: cancel, drain, crash, delete, and the lists."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.core.conversations import Ask, Conversations, IfBusy
from server.core.errors import DrainingError, InvalidRequestError
from server.core.planning import Defaults
from server.upstream.port import (
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from storage.model import Failure, Query, Role, Status, Usage
from storage.port import AlreadyExistsError, NotFoundError, Piece
from storage.sqlite import SQLiteStore
from tests.conftest import MODEL
from tests.fakes import Parrot, Puppet
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


async def test_an_answer_that_stops_without_an_end_is_cut_off(store: SQLiteStore) -> None:
    class Mumbling(Parrot):
        async def complete(self, prompt: Any) -> Any:
            yield "Half"

    async with Conversations(store, Mumbling(), Defaults(MODEL)) as conversations:
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
    async with Conversations(store, Parrot(), Defaults(MODEL)) as conversations:
        mine = await ended(conversations, await conversations.turn(ADA, "turn_1"))
        theirs = await conversations.turn(BOB, "turn_1")
        assert (mine.status, mine.answer) == (Status.INTERRUPTED, "Half 🙂 an")
        assert (theirs.status, theirs.answer, theirs.answer_id) == (Status.INTERRUPTED, "", None)
        assert await store.running() == []
        again = await asked(conversations, "Go on")
        assert again.parent_id == mine.answer_id


# Conversations


async def test_deleting_ends_what_runs(conversations: Conversations, upstream: Puppet) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Hi"))
    follower = asyncio.create_task(gathered(conversations.follow(ADA, turn.id)))
    upstream.say("Half")
    await until_text(conversations, turn, "Half")
    await conversations.delete(ADA, "c")
    assert text_of(await follower) == "Half"
    for gone in (conversations.turn(ADA, turn.id), conversations.get(ADA, "c")):
        with pytest.raises(NotFoundError):
            await gone
    await answered(conversations, upstream, "Fresh", "Anew")
    assert [m.content for m in await branch(conversations)] == ["Anew", "Fresh"]


async def test_deleting_goes_before_those_who_wait(
    conversations: Conversations, upstream: Puppet
) -> None:
    await conversations.ask(ADA, "c", Ask("Hi"))
    await upstream.asked(1)
    waiting = await in_line(conversations, "waiting")
    await conversations.delete(ADA, "c")
    await upstream.asked(2)
    upstream.answer("Fresh")
    await ended(conversations, await waiting)
    assert [m.content for m in await branch(conversations)] == ["waiting", "Fresh"]


async def test_deleting_many_times_at_once_deletes_once(parroted: Conversations) -> None:
    await asked(parroted, "Hi")
    many = [parroted.delete(ADA, "c") for _ in range(5)]
    results = await asyncio.gather(*many, return_exceptions=True)
    assert [type(result) for result in results].count(NotFoundError) == 4
    assert (await asked(parroted, Ask("Hi", if_busy=IfBusy.REJECT))).status is Status.COMPLETED


async def test_a_created_conversation_is_what_was_asked_for(conversations: Conversations) -> None:
    given: dict[str, Any] = {
        "title": "Title",
        "system_prompt": "Be.",
        "model": "gpt-4",
        "metadata": {"k": ["v"]},
    }
    made = await conversations.create(ADA, id="mine", **given)
    assert {name: getattr(made, name) for name in given} == given
    assert await conversations.get(ADA, "mine") == made
    with pytest.raises(AlreadyExistsError):
        await conversations.create(ADA, id="mine")
    await conversations.create(BOB, id="mine")


@pytest.mark.parametrize("id_", [None, "", "new"])
async def test_a_conversation_without_an_id_gets_one(
    conversations: Conversations, id_: str | None
) -> None:
    first, second = [await conversations.create(ADA, id=id_) for _ in range(2)]
    assert first.id.startswith("conv_")
    assert first.id < second.id


async def test_new_asks_for_a_conversation_of_its_own(parroted: Conversations) -> None:
    turns = [await asked(parroted, "Hi", into=into) for into in ("", "new", "new")]
    assert len({turn.conversation_id for turn in turns}) == 3


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"title": 5}, "title"),
        ({"title": "t" * 201}, "title"),
        ({"title": None}, "title"),
        ({"system_prompt": "\ud800"}, "system_prompt"),
        ({"system_prompt": 5}, "system_prompt"),
        ({"model": "a\nb"}, "model"),
        ({"metadata": []}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"head_id": None}, "head_id"),
        ({"truncation": "half"}, "truncation"),
        ({"id": "other"}, "id"),
        ({"owner": BOB}, "owner"),
        ({"title": "fine", "created_at": 5}, "created_at"),
    ],
)
async def test_a_bad_change_is_refused_whole(
    conversations: Conversations, changes: dict[str, Any], param: str
) -> None:
    before = await conversations.create(ADA, id="c", title="Before")
    with pytest.raises(InvalidRequestError) as refused:
        await conversations.update(ADA, "c", changes)
    assert refused.value.param == param
    assert await conversations.get(ADA, "c") == before


async def test_an_empty_prompt_or_model_is_none(conversations: Conversations) -> None:
    await conversations.create(ADA, id="c", system_prompt="Be.", model="gpt-4")
    changed = await conversations.update(ADA, "c", {"system_prompt": "", "model": ""})
    assert (changed.system_prompt, changed.model) == (None, None)


async def test_another_head_is_where_the_next_question_goes(parroted: Conversations) -> None:
    first = await asked(parroted, "1")
    await asked(parroted, "2")
    await parroted.update(ADA, "c", {"head_id": first.answer_id})
    assert (await asked(parroted, "3")).parent_id == first.answer_id


async def test_a_title_is_the_first_question_until_somebody_sets_one(
    parroted: Conversations,
) -> None:
    await asked(parroted, "What  is\nlove?")
    await asked(parroted, "Really?")
    assert (await parroted.get(ADA, "c")).title == "What is love?"
    await parroted.update(ADA, "c", {"title": "Love"})
    await asked(parroted, "Sure?")
    assert (await parroted.get(ADA, "c")).title == "Love"


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
async def test_messages_come_oldest_first_in_exact_pages(
    parroted: Conversations, limit: int
) -> None:
    for number in range(3):
        await asked(parroted, str(number))
    whole = await branch(parroted)
    found: list[Any] = []
    more, before = True, None
    while more:
        page = await parroted.messages(ADA, "c", limit=limit, before=before)
        assert len(page.items) <= limit
        found, more = [*page.items, *found], page.has_more
        before = found[0].id
    assert found == whole
    assert len(found) == 6


async def test_any_branch_can_be_read(parroted: Conversations) -> None:
    first = await asked(parroted, "1")
    second = await asked(parroted, "2")
    await asked(parroted, Ask("3", parent_id=first.answer_id))
    page = await parroted.messages(ADA, "c", leaf=second.answer_id)
    assert [m.content for m in page.items] == ["1", "1 ", "2", "2 "]
    assert [len(m.siblings) for m in page.items] == [1, 1, 2, 1]


async def test_an_empty_conversation_has_no_messages(conversations: Conversations) -> None:
    await conversations.create(ADA, id="c")
    page = await conversations.messages(ADA, "c")
    assert (page.items, page.has_more) == ((), False)


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_page_that_is_none_is_refused(parroted: Conversations, limit: int) -> None:
    await asked(parroted, "Hi")
    for call in (
        parroted.page(ADA, limit=limit),
        parroted.messages(ADA, "c", limit=limit),
        parroted.search(ADA, Query("Hi"), limit=limit),
    ):
        with pytest.raises(InvalidRequestError):
            await call


async def test_owners_see_their_own_alone(parroted: Conversations) -> None:
    await asked(parroted, "elephant")
    for call in (
        parroted.get(BOB, "c"),
        parroted.messages(BOB, "c"),
        parroted.update(BOB, "c", {"title": "mine"}),
        parroted.delete(BOB, "c"),
        parroted.preview(BOB, "c", Ask("Hi")),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert (await parroted.page(BOB)).items == ()
    assert (await parroted.search(BOB, Query("elephant"))).items == ()
    await asked(parroted, "mine", owner=BOB)
    assert [m.content for m in await branch(parroted)] == ["elephant", "elephant "]


async def test_ready_says_whether_an_ask_would_be_kept(conversations: Conversations) -> None:
    await conversations.ready()

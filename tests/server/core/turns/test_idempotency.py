"""Tests of idempotency keys: one key is one turn, however often and wherever it is asked again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from server.app.core import core_of
from server.core.conversations import ROOT, Ask, Conversations, IfBusy
from server.core.errors import ContextLengthError
from server.core.turns.plan import Defaults
from storage.model import Status, Turn
from storage.port import IdempotencyMismatchError, NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import (
    asked,
    asking,
    branch,
    ended,
    in_line,
    until_text,
)
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import MODEL, Parrot, Puppet


async def test_one_key_50_times_at_once_is_one_turn(
    conversations: Conversations, upstream: Puppet
) -> None:
    many = [asking(conversations, "Hello", idempotency_key="k") for _ in range(50)]
    turns = await asyncio.gather(*many)
    assert len({turn.id for turn in turns}) == 1
    upstream.answer("Hi")
    done = await ended(conversations, turns[0])
    again = await conversations.ask(ADA, "c", Ask("Hello", idempotency_key="k"))
    assert again == done
    assert len(upstream.prompts) == 1
    assert (await conversations.get(ADA, "c")).message_count == 2


async def test_a_running_turn_is_joined_with_its_answer_so_far(
    conversations: Conversations, upstream: Puppet
) -> None:
    question = Ask("Hello", idempotency_key="k", if_busy=IfBusy.REJECT)
    first = await conversations.ask(ADA, "c", question)
    upstream.say("Half")
    await until_text(conversations, first, "Half")
    joined = await conversations.ask(ADA, "c", question)
    assert (joined.id, joined.status, joined.answer) == (first.id, Status.RUNNING, "Half")


async def test_a_key_of_new_conversations_gives_one_conversation(
    conversations: Conversations, upstream: Puppet
) -> None:
    question = Ask("Hello", idempotency_key="k")
    first, second = [await conversations.ask(ADA, "new", question) for _ in range(2)]
    assert first.conversation_id == second.conversation_id
    await upstream.asked(1)


@pytest.mark.parametrize(
    "other",
    [
        {"content": "Other"},
        {"content": [{"type": "text", "text": "Hello"}]},
        {"max_tokens": 5},
        {"model": "gpt-4"},
        {"parent_id": ROOT},
    ],
    ids=range(5),
)
async def test_a_key_is_for_one_question(
    conversations: Conversations, upstream: Puppet, other: dict[str, Any]
) -> None:
    question = Ask("Hello", idempotency_key="k")
    upstream.answer("Hi")
    await asked(conversations, question)
    with pytest.raises(IdempotencyMismatchError):
        await conversations.ask(ADA, "c", replace(question, **other))
    with pytest.raises(IdempotencyMismatchError):
        await conversations.ask(ADA, "other", question)
    assert len(upstream.prompts) == 1


async def test_a_key_with_another_question_at_the_same_moment_is_refused(
    conversations: Conversations,
) -> None:
    first = asking(conversations, "Hello", idempotency_key="k")
    second = asking(conversations, "Other", idempotency_key="k")
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [Turn, IdempotencyMismatchError]


async def test_a_key_outlives_the_server(store: SQLiteStore) -> None:
    question = Ask("Hello", idempotency_key="k")
    turns = []
    for _ in range(2):
        async with core_of(store, Parrot(), Defaults(MODEL)) as conversations:
            turns.append(await asked(conversations, question))
    assert turns[0] == turns[1]


async def test_owners_keys_do_not_meet(conversations: Conversations) -> None:
    question = Ask("Hello", idempotency_key="k")
    mine, theirs = [await conversations.ask(owner, "c", question) for owner in (ADA, BOB)]
    assert mine.id != theirs.id


async def test_a_refused_question_leaves_its_key_free(
    conversations: Conversations, upstream: Puppet
) -> None:
    for bad in (Ask("Hello", parent_id="nowhere"), Ask("Hello", max_tokens=128_000)):
        with pytest.raises((NotFoundError, ContextLengthError)):
            await conversations.ask(ADA, "c", replace(bad, idempotency_key="k"))
    upstream.answer("Hi")
    await asked(conversations, Ask("Other", idempotency_key="k"))


async def test_an_asker_with_a_key_can_come_back_to_a_place_in_line(
    conversations: Conversations, upstream: Puppet
) -> None:
    first = await conversations.ask(ADA, "c", Ask("first"))
    left = await in_line(conversations, "second", idempotency_key="k")
    left.cancel()
    back = await in_line(conversations, "second", idempotency_key="k")
    upstream.answer("Hi").answer("Hi")
    await ended(conversations, first)
    await ended(conversations, await back)
    assert [m.content for m in await branch(conversations)] == ["first", "Hi", "second", "Hi"]


async def interrupted(store: SQLiteStore, question: Ask, into: str = "c") -> Turn:
    """Ask, and stop the server when half of the answer was said."""
    upstream = Puppet()
    async with core_of(store, upstream, Defaults(MODEL)) as conversations:
        turn = await conversations.ask(ADA, into, question)
        upstream.say("Half")
        await until_text(conversations, turn, "Half")
        await conversations.drain(0)
        return await conversations.turn(ADA, turn.id)


async def test_a_key_of_an_interrupted_turn_has_its_question_answered_anew(
    store: SQLiteStore,
) -> None:
    question = Ask("Hello", system_prompt="Be brief.", idempotency_key="k")
    left = await interrupted(store, question)
    assert (left.status, left.answer) == (Status.INTERRUPTED, "Half")
    upstream = Puppet()
    async with core_of(store, upstream, Defaults(MODEL)) as conversations:
        await conversations.update(ADA, "c", {"system_prompt": "Be kind."})
        many = [conversations.ask(ADA, "c", question) for _ in range(9)]
        (again, *others) = await asyncio.gather(*many)
        assert {turn.id for turn in others} == {again.id} != {left.id}
        upstream.answer("Whole")
        done = await ended(conversations, again)
        assert (done.status, done.answer) == (Status.COMPLETED, "Whole")
        assert (done.question_id, done.parent_id) == (left.question_id, left.parent_id)
        assert await conversations.ask(ADA, "c", question) == done
        (prompt,) = upstream.prompts
        assert [one.content for one in prompt.messages] == ["Be kind.", "Hello"]
        assert [one.content for one in await branch(conversations)] == ["Hello", "Whole"]
        assert (await conversations.turn(ADA, left.id)) == left
        with pytest.raises(IdempotencyMismatchError):
            await conversations.ask(ADA, "c", replace(question, content="Other"))


async def test_what_is_begun_anew_was_asked_by_the_same_wire(store: SQLiteStore) -> None:
    question = Ask("Hello", idempotency_key="k", wire="easybackend")
    assert (await interrupted(store, question)).wire == "easybackend"
    async with core_of(store, Puppet().answer("Whole"), Defaults(MODEL)) as conversations:
        again = await conversations.ask(ADA, "c", question)
        assert (await ended(conversations, again)).wire == "easybackend"


async def test_it_is_begun_anew_where_it_was_begun(store: SQLiteStore) -> None:
    question = Ask("Hello", idempotency_key="k")
    left = await interrupted(store, question, into="new")
    async with core_of(store, Parrot(), Defaults(MODEL)) as conversations:
        done = await asked(conversations, question, into="new")
        assert done.conversation_id == left.conversation_id
        assert done.status is Status.COMPLETED


async def test_it_may_be_interrupted_again_and_waits_for_who_came_first(
    store: SQLiteStore,
) -> None:
    question = Ask("Hello", idempotency_key="k")
    first, second = [await interrupted(store, question) for _ in range(2)]
    assert (second.status, second.question_id) == (Status.INTERRUPTED, first.question_id)
    upstream = Puppet()
    async with core_of(store, upstream, Defaults(MODEL)) as conversations:
        other = await conversations.ask(ADA, "c", Ask("Other"))
        with pytest.raises(IdempotencyMismatchError):
            await conversations.ask(ADA, "c", replace(question, if_busy=IfBusy.REJECT))
        back = await in_line(conversations, "Hello", idempotency_key="k")
        upstream.answer("One").answer("Two")
        await ended(conversations, other)
        done = await ended(conversations, await back)
        assert (done.answer, done.question_id) == ("Two", first.question_id)
        assert [one.content for one in await branch(conversations)] == ["Hello", "Two"]


async def test_a_key_of_a_deleted_conversation_is_free(store: SQLiteStore) -> None:
    question = Ask("Hello", idempotency_key="k")
    left = await interrupted(store, question)
    async with core_of(store, Parrot(), Defaults(MODEL)) as conversations:
        await conversations.delete(ADA, "c")
        done = await asked(conversations, question)
        assert (done.status, done.question_id == left.question_id) == (Status.COMPLETED, False)

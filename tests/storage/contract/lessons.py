"""The part of the store's contract about what is learnt, and turns that are taken back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from storage.model import ContextUse, Lesson, Query, Role, Status
from storage.port import LESSONS_KEPT, NotFoundError, Store
from tests.storage.nouns import (
    ADA,
    BOB,
    begin,
    claim,
    conversation,
    exchange,
    message,
    outcome,
    turn,
)


class Lessons:
    """By upstream and model, the newest last."""

    async def test_the_newest_stands_in_the_place_of_the_older(self, store: Store) -> None:
        assert await store.lessons() == []
        first, other = Lesson("llama", "tiny", 2.5), Lesson("vllm", "tiny", None, 4096, 7)
        for lesson in (first, other):
            await store.learn(lesson)
        better = Lesson("llama", "tiny", 3.25, 512, 9)
        await store.learn(better)
        assert list(await store.lessons()) == [other, better]

    async def test_those_that_were_learnt_last_are_kept(self, store: Store) -> None:
        await store.learn(Lesson("llama", "first", 1.5))
        for number in range(LESSONS_KEPT):
            await store.learn(Lesson("llama", f"model-{number}", 1.5))
        await store.learn(Lesson("llama", "model-0", 2.5))
        kept = [lesson.model for lesson in await store.lessons()]
        assert "first" not in kept
        assert len(kept) == LESSONS_KEPT
        assert kept[-1] == "model-0"

    async def test_one_is_kept_however_often_others_are_learnt_anew(self, store: Store) -> None:
        await store.learn(Lesson("llama", "rare", 1.5))
        again = [Lesson("llama", model, 1.5) for model in ("usual", "other")] * LESSONS_KEPT
        await asyncio.gather(*map(store.learn, again[: LESSONS_KEPT + 1]))
        kept = [lesson.model for lesson in await store.lessons()]
        assert (kept[0], sorted(kept)) == ("rare", ["other", "rare", "usual"])

    async def test_a_turn_tells_how_its_prompt_was_counted(self, store: Store) -> None:
        await begin(store)
        assert (await store.turn(ADA, "turn_1")).context.counted is None
        sent = ContextUse(512, 448, 99, 3, 2, "learnt", False)
        ended = await store.end(ADA, "turn_1", outcome("1", context=sent))
        assert ended.context == sent == (await store.turn(ADA, "turn_1")).context

    async def test_a_turn_begins_with_how_its_prompt_is_counted(self, store: Store) -> None:
        sent = ContextUse(512, 448, 99, 3, 2, "exact", True)
        told = replace(turn("1"), context=sent)
        begun = await store.begin(ADA, told, message("q_1"), conversation=conversation())
        assert begun.context == sent == (await store.turn(ADA, "turn_1")).context
        ended = await store.end(ADA, "turn_1", outcome("1"))
        assert ended.context == sent


class Withdrawing:
    """A turn that is taken back leaves nothing."""

    async def test_all_that_it_began_is_gone(self, store: Store) -> None:
        greeting = message("g", None, Role.ASSISTANT, "Welcome", created_at=5)
        question = message("q_1", "g", turn_id="turn_1", content="needle")
        await store.begin(
            ADA,
            turn("1"),
            question,
            conversation=conversation(at=5),
            title="needle",
            claim=claim(),
            before=[greeting],
        )
        await store.withdraw(ADA, "turn_1")
        assert await store.claimed(ADA, claim()) is None
        assert await store.running() == []
        for gone in (store.turn(ADA, "turn_1"), store.conversation(ADA, "c")):
            with pytest.raises(NotFoundError):
                await gone
        assert (await store.search(ADA, Query("needle"), limit=5)).items == ()
        assert await begin(store) is not None, "its ids are free again"

    async def test_what_was_there_before_stays(self, store: Store) -> None:
        await exchange(store)
        before = await store.conversation(ADA, "c")
        await begin(store, "2", parent="a_1")
        await store.withdraw(ADA, "turn_2", head_id="a_1")
        after = await store.conversation(ADA, "c")
        assert (after.head_id, after.message_count) == ("a_1", 2)
        assert (after.title, after.created_at) == (before.title, before.created_at)
        assert await store.last_turn(ADA, "c") == await store.turn(ADA, "turn_1")

    async def test_the_head_is_where_it_was(self, store: Store) -> None:
        await exchange(store)
        await exchange(store, "2", parent="a_1")
        await begin(store, "3", parent="a_1")
        await store.withdraw(ADA, "turn_3", head_id="a_2")
        assert (await store.conversation(ADA, "c")).head_id == "a_2"

    async def test_a_question_that_was_there_before_stays(self, store: Store) -> None:
        await exchange(store)
        await store.begin(ADA, turn("2", question="q_1"), None)
        await store.withdraw(ADA, "turn_2", head_id="a_1")
        assert (await store.conversation(ADA, "c")).head_id == "a_1"
        assert (await store.message(ADA, "c", "q_1")).content == "Hello"

    async def test_an_empty_conversation_stays_and_loses_the_title(self, store: Store) -> None:
        await store.create(ADA, conversation())
        await begin(store, title="Hello")
        await store.withdraw(ADA, "turn_1", title="Hello")
        there = await store.conversation(ADA, "c")
        assert (there.title, there.message_count, there.head_id) == ("", 0, None)

    async def test_who_watches_goes_on_behind_it(self, store: Store) -> None:
        await exchange(store)
        await begin(store, "2", parent="a_1")
        await store.withdraw(ADA, "turn_2", head_id="a_1")
        assert await store.next_turn(ADA, "c", "turn_2") is None
        await begin(store, "3", parent="a_1")
        found = await store.next_turn(ADA, "c", "turn_2")
        assert found is not None
        assert found.id == "turn_3"
        with pytest.raises(NotFoundError):
            await store.next_turn(ADA, "c", "nothing")

    async def test_one_that_ended_is_not_taken_back(self, store: Store) -> None:
        await exchange(store)
        await store.withdraw(ADA, "turn_1")
        assert (await store.turn(ADA, "turn_1")).status is Status.COMPLETED

    async def test_nobody_takes_back_another_s(self, store: Store) -> None:
        await begin(store)
        with pytest.raises(NotFoundError):
            await store.withdraw(BOB, "turn_1")
        assert (await store.turn(ADA, "turn_1")).status is Status.RUNNING

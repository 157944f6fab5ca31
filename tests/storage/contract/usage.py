"""The part of the store's contract that is about tokens used; see `test_contract.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from storage.model import Status, Usage
from storage.port import NotFoundError, Outcome, Store
from tests.storage.nouns import ADA, BOB, CONTEXT, DAY, begin, exchange, outcome

MIDNIGHT = 20_000 * DAY


class Spending:
    """Counted by owner and day, with the end of a turn or alone."""

    async def test_nobody_has_used_anything_at_first(self, store: Store) -> None:
        assert await store.spent(ADA, 0) == 0

    async def test_days_begin_at_midnight(self, store: Store) -> None:
        await store.spend(ADA, 1, MIDNIGHT - 1)
        await store.spend(ADA, 10, MIDNIGHT)
        await store.spend(ADA, 100, MIDNIGHT + DAY - 1)
        await store.spend(ADA, 1000, MIDNIGHT + DAY)
        assert await store.spent(ADA, MIDNIGHT - DAY) == 1111
        assert await store.spent(ADA, MIDNIGHT) == 1110
        assert await store.spent(ADA, MIDNIGHT + DAY // 2) == 1110
        assert await store.spent(ADA, MIDNIGHT + DAY) == 1000

    async def test_more_than_can_be_counted_is_the_most_that_can(self, store: Store) -> None:
        for day in range(3):
            for tokens in ((1 << 63) - 1, 1 << 70, 1):
                await store.spend(ADA, tokens, MIDNIGHT + day * DAY)
        assert await store.spent(ADA, 0) >= 1 << 53
        await begin(store)
        await store.end(ADA, "turn_1", outcome("1", usage=Usage(1, 1), ended_at=MIDNIGHT))
        assert await store.spent(ADA, 0) >= 1 << 53

    async def test_owners_do_not_meet(self, store: Store) -> None:
        await store.spend(ADA, 5, MIDNIGHT)
        assert await store.spent(BOB, 0) == 0

    async def test_the_end_of_a_turn_counts_what_it_took(self, store: Store) -> None:
        await begin(store)
        ended = outcome("1", usage=Usage(30, 12), ended_at=MIDNIGHT)
        await store.end(ADA, "turn_1", ended)
        assert await store.spent(ADA, MIDNIGHT) == 42

    async def test_an_end_that_is_told_twice_counts_once(self, store: Store) -> None:
        await begin(store)
        for _ in range(2):
            await store.end(ADA, "turn_1", outcome("1", usage=Usage(30, 12)))
        assert await store.spent(ADA, 0) == 42

    async def test_an_end_that_is_not_kept_does_not_count(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            await store.end(ADA, "turn_1", outcome("1", usage=Usage(30, 12)))
        assert await store.spent(ADA, 0) == 0

    async def test_without_usage_it_is_what_was_sent_and_said(self, store: Store) -> None:
        await begin(store)
        cut = outcome("1", status=Status.INTERRUPTED, tokens=5)
        await store.end(ADA, "turn_1", cut)
        assert await store.spent(ADA, 0) == CONTEXT.prompt_tokens + 5

    async def test_what_was_sent_at_last_counts(self, store: Store) -> None:
        await begin(store)
        less = replace(CONTEXT, prompt_tokens=CONTEXT.prompt_tokens - 1)
        await store.end(ADA, "turn_1", outcome("1", tokens=5, context=less))
        assert await store.spent(ADA, 0) == less.prompt_tokens + 5

    @pytest.mark.parametrize(
        ("status", "text", "tokens"),
        [
            (Status.FAILED, "", 0),
            (Status.FAILED, "Hel", 9),
            (Status.CANCELLED, "", 9),
            (Status.INTERRUPTED, "", 9),
            (Status.COMPLETED, "", 9),
        ],
    )
    async def test_only_what_failed_without_a_word_is_free(
        self, store: Store, status: Status, text: str, tokens: int
    ) -> None:
        await begin(store)
        ended: Outcome = outcome("1", text, status, usage=Usage(7, 2))
        await store.end(ADA, "turn_1", ended)
        assert await store.spent(ADA, 0) == tokens

    async def test_what_is_deleted_stays_used(self, store: Store) -> None:
        await exchange(store)
        used = await store.spent(ADA, 0)
        await store.delete(ADA, "c")
        assert await store.spent(ADA, 0) == used > 0

    async def test_what_is_imported_was_not_used_here(self, store: Store) -> None:
        await exchange(store)
        kept = await store.conversation(ADA, "c")
        messages = await store.every_message(ADA, "c", after=None, limit=9)
        turns = await store.every_turn(ADA, "c", after=None, limit=9)
        await store.put(BOB, kept, messages, turns)
        assert await store.spent(BOB, 0) == 0

    async def test_many_at_once_are_all_counted(self, store: Store) -> None:
        await asyncio.gather(*(store.spend(ADA, 1, MIDNIGHT) for _ in range(50)))
        assert await store.spent(ADA, 0) == 50

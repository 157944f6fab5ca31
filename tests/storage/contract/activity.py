"""The part of the store's contract about which conversation was last active, and what is pinned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.model import Conversation, Order, Page, Role, Status
from storage.port import NotFoundError, Store
from tests.storage.nouns import ADA, BOB, begin, conversation, exchange, message, outcome, turn


async def last(store: Store, conversation_id: str = "c") -> int | None:
    return (await store.conversation(ADA, conversation_id)).last_message_at


async def listed(store: Store, limit: int = 100, owner: str = ADA) -> list[str]:
    """Return all conversations by activity, read in pages of so many."""
    pages: list[Page[Conversation]] = []
    after = None
    while not pages or pages[-1].has_more:
        pages.append(
            await store.conversations(owner, limit=limit, after=after, order=Order.ACTIVITY)
        )
        after = pages[-1].items[-1].id
    assert [len(page.items) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    return [one.id for page in pages for one in page.items]


class Activity:
    """When the last message came, and lists in that order."""

    async def test_one_without_messages_has_none(self, store: Store) -> None:
        await store.create(ADA, conversation(at=3))
        assert await last(store) is None
        await store.update(ADA, "c", {"title": "New"}, 50)
        assert await last(store) is None

    async def test_it_is_when_the_question_came_and_then_the_answer(self, store: Store) -> None:
        await begin(store)
        assert await last(store) == 5
        await store.end(ADA, "turn_1", outcome("1"))
        assert await last(store) == 9

    async def test_an_end_without_an_answer_is_no_message(self, store: Store) -> None:
        await begin(store)
        await store.end(ADA, "turn_1", outcome("1", "", Status.FAILED))
        assert await last(store) == 5

    async def test_nor_is_the_beginning_of_another_answer(self, store: Store) -> None:
        await exchange(store)
        await store.begin(ADA, replace(turn("2", question="q_1"), created_at=70), None)
        assert await last(store) == 9

    async def test_nor_a_change_nor_a_summary(self, store: Store) -> None:
        await exchange(store)
        await store.update(ADA, "c", {"title": "New", "pinned": True}, 77)
        summary = message("s", "a_1", Role.SYSTEM, "In short", stands_for=2, created_at=88)
        await store.summarise(ADA, summary)
        assert await last(store) == 9

    async def test_what_is_put_has_that_of_its_newest_message(self, store: Store) -> None:
        said = [message("q", created_at=30), message("a", "q", created_at=20)]
        summary = message("s", "a", Role.SYSTEM, stands_for=2, created_at=90)
        await store.put(ADA, conversation(at=40, head_id="a"), [*said, summary], [])
        assert await last(store) == 30
        await store.put(ADA, conversation(), [message("b", "q", created_at=25)], [])
        assert await last(store) == 30
        await store.put(ADA, conversation(), [message("c", "q", created_at=35)], [])
        assert await last(store) == 35

    async def test_what_is_much_has_it_too(self, store: Store) -> None:
        many = [
            message(f"m{n}", f"m{n - 1}" if n else None, created_at=10 + n) for n in range(1_200)
        ]
        await store.put(ADA, conversation(head_id="m1199"), many, [])
        assert await last(store) == 10 + 1_199

    async def test_taking_a_turn_back_takes_it_back(self, store: Store) -> None:
        await exchange(store)
        question = message("q_2", "a_1", turn_id="turn_2", created_at=60)
        await store.begin(ADA, replace(turn("2"), created_at=60), question)
        assert await last(store) == 60
        await store.withdraw(ADA, "turn_2", head_id="a_1")
        assert await last(store) == 9

    async def test_and_leaves_none_in_one_that_was_empty(self, store: Store) -> None:
        await store.create(ADA, conversation("older", at=4))
        await store.create(ADA, conversation(at=3))
        await begin(store)
        await store.withdraw(ADA, "turn_1")
        assert await last(store) is None
        assert await listed(store) == ["older", "c"]

    async def test_who_was_last_active_comes_first(self, store: Store) -> None:
        for name, at in (("old", 1), ("new", 8), ("empty", 6)):
            await store.create(ADA, conversation(name, at=at))
        assert await listed(store) == ["new", "empty", "old"]
        await exchange(store, into="old")
        assert await listed(store) == ["old", "new", "empty"]
        await store.update(ADA, "empty", {"title": "Renamed"}, 99)
        assert await listed(store) == ["old", "new", "empty"]

    async def test_what_is_pinned_comes_before_that(self, store: Store) -> None:
        for number in range(4):
            await store.create(ADA, conversation(f"c{number}", at=number))
        for name in ("c0", "c2"):
            assert (await store.update(ADA, name, {"pinned": True}, 50)).pinned
        assert await listed(store) == ["c2", "c0", "c3", "c1"]
        newest = await store.conversations(ADA, limit=9)
        assert [one.id for one in newest.items] == ["c3", "c2", "c1", "c0"]
        assert not (await store.update(ADA, "c2", {"pinned": False}, 51)).pinned
        assert await listed(store) == ["c0", "c3", "c2", "c1"]

    @pytest.mark.parametrize("limit", [1, 4, 11, 12, 13])
    async def test_pages_are_exact_where_times_are_equal(self, store: Store, limit: int) -> None:
        for number in range(12):
            pinned = number % 5 == 0
            new = conversation(f"c{number:02}", at=number // 6, pinned=pinned)
            await store.create(ADA, new)
            await store.create(BOB, new)
        numbers = sorted(range(12), key=lambda n: (n % 5 == 0, n // 6, n), reverse=True)
        assert await listed(store, limit) == [f"c{number:02}" for number in numbers]

    async def test_another_owners_stand_for_no_place(self, store: Store) -> None:
        await store.create(BOB, conversation("bobs"))
        with pytest.raises(NotFoundError):
            await store.conversations(ADA, limit=1, after="bobs", order=Order.ACTIVITY)

    async def test_a_pin_is_put_with_what_is_new_and_stays_what_it_is(self, store: Store) -> None:
        await store.put(ADA, conversation(pinned=True), [message("q")], [])
        assert (await store.conversation(ADA, "c")).pinned
        await store.put(ADA, conversation(), [message("r")], [])
        assert (await store.conversation(ADA, "c")).pinned

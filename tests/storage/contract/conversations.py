"""What every adapter of the store's port must do; a fixture `store` is all that it needs."""

from __future__ import annotations

from typing import Any

import pytest

from storage.model import Content, Conversation, Page, Query, Role, Status
from storage.port import (
    AlreadyExistsError,
    BusyError,
    NotFoundError,
    Piece,
    Store,
)
from tests.storage.contract.owners import REACHES
from tests.storage.nouns import (
    ADA,
    begin,
    chain,
    claim,
    conversation,
    exchange,
    message,
    outcome,
    turn,
)

TEXTS = [
    "",
    " ",
    "a\nb",
    "naïve café",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "漢字かな",
    "مرحبا بالعالم",
    "a\x00b",
    "'; --",
    "x" * 300_000,
]
PARTS: Content = [
    {"type": "text", "text": "What is this? 🙂"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
]


class Conversations:
    """Made, paged, changed and deleted."""

    async def test_one_comes_back_as_it_was_kept(self, store: Store) -> None:
        new = conversation(
            title="Ein Titel 🙂",
            system_prompt="Be brief.",
            model="gpt-4o",
            metadata={"a": [1, None, {"b": "ü"}]},
            truncation="summarize",
        )
        assert await store.create(ADA, new) == new
        assert await store.conversation(ADA, "c") == new

    async def test_an_id_is_taken_once(self, store: Store) -> None:
        await store.create(ADA, conversation(title="first"))
        with pytest.raises(AlreadyExistsError):
            await store.create(ADA, conversation(title="second"))
        assert (await store.conversation(ADA, "c")).title == "first"

    @pytest.mark.parametrize("limit", [1, 4, 11, 12, 13, 100])
    async def test_pages_are_exact_and_newest_first(self, store: Store, limit: int) -> None:
        for number in range(12):
            await store.create(ADA, conversation(f"c{number:02}", at=number // 3))

        pages: list[Page[Conversation]] = []
        after = None
        while not pages or pages[-1].has_more:
            pages.append(await store.conversations(ADA, limit=limit, after=after))
            after = pages[-1].items[-1].id

        found = [c.id for page in pages for c in page.items]
        assert found == [f"c{number:02}" for number in reversed(range(12))]
        assert [len(page.items) for page in pages[:-1]] == [limit] * (len(pages) - 1)

    async def test_pages_stay_what_they_are_while_more_is_asked(self, store: Store) -> None:
        for number in range(6):
            await store.create(ADA, conversation(f"c{number}", at=number))
        first = await store.conversations(ADA, limit=3)

        await store.create(ADA, conversation("later", at=9))
        await exchange(store, into="c0")
        second = await store.conversations(ADA, limit=3, after=first.items[-1].id)

        assert [c.id for c in (*first.items, *second.items)] == ["c5", "c4", "c3", "c2", "c1", "c0"]

    async def test_titles_are_looked_through(self, store: Store) -> None:
        for number, title in enumerate(["Tea in Ceylon", "Coffee", "tea time"]):
            await store.create(ADA, conversation(f"c{number}", at=number, title=title))
        found = await store.conversations(ADA, limit=5, q="tea")
        assert [c.id for c in found.items] == ["c2", "c0"]

    @pytest.mark.parametrize(
        ("q", "ids"),
        [
            ("winter b", ["c4", "c1"]),
            ("b WINTER", ["c4", "c1"]),
            ("winter z", []),
            ("日本 winter", ["c3"]),
            ("b", ["c4", "c2", "c1"]),
            ("su b", ["c2"]),
            ("winter -", ["c4", "c3", "c1", "c0"]),
        ],
    )
    async def test_short_words_of_a_title_count_beside_long_ones(
        self, store: Store, q: str, ids: list[str]
    ) -> None:
        titles = ["Winter a", "Winter b", "Summer b", "Winter in 日本", "A winter: b"]
        for number, title in enumerate(titles):
            await store.create(ADA, conversation(f"c{number}", at=number, title=title))
        found: list[str] = []
        more, after = True, None
        while more:
            page = await store.conversations(ADA, limit=1, after=after, q=q)
            found += [c.id for c in page.items]
            more, after = page.has_more, found[-1] if found else None
        assert found == ids

    @pytest.mark.parametrize(
        "change",
        [
            {"title": "New"},
            {"system_prompt": "Sing."},
            {"system_prompt": None},
            {"model": "gpt-4"},
            {"metadata": {"k": "v"}},
            {"truncation": "summarize"},
            {"pinned": True},
            {"head_id": "q_1"},
            {"title": "New", "model": None},
        ],
    )
    async def test_a_change_touches_nothing_else(
        self, store: Store, change: dict[str, Any]
    ) -> None:
        await store.create(ADA, conversation(title="Old", system_prompt="Speak.", model="gpt-4o"))
        await exchange(store)
        before = await store.conversation(ADA, "c")

        after = await store.update(ADA, "c", change, 77)

        assert after == await store.conversation(ADA, "c")
        assert after.updated_at == 77
        for field in before.__slots__:
            if field != "updated_at":
                assert getattr(after, field) == change.get(field, getattr(before, field))

    async def test_deleting_takes_all_of_one_and_nothing_of_another(self, store: Store) -> None:
        await chain(store, ["1", "2"])
        await exchange(store, "3", into="other")
        await begin(store, "4", parent="a_2", content="elephant", claim=claim())
        await store.end(ADA, "turn_4", outcome("4"))
        await store.delete(ADA, "c")

        for reach in REACHES.values():
            with pytest.raises(NotFoundError):
                await reach(store, ADA)
        assert await store.claimed(ADA, claim(fingerprint=b"any")) is None
        assert (await store.search(ADA, Query("elephant"), limit=5)).items == ()
        assert [c.id for c in (await store.conversations(ADA, limit=5)).items] == ["other"]
        assert (await store.turn(ADA, "turn_3")).status is Status.COMPLETED

    async def test_all_ids_are_free_again_after_deleting(self, store: Store) -> None:
        await chain(store, ["1", "2"])
        await store.delete(ADA, "c")
        await chain(store, ["1", "2"])
        assert (await store.conversation(ADA, "c")).message_count == 4

    async def test_a_large_one_is_deleted_whole(self, store: Store) -> None:
        many = [message(f"m{n}", f"m{n - 1}" if n else None) for n in range(1_700)]
        await store.put(ADA, conversation(), many, [])
        await store.delete(ADA, "c")
        assert await store.put(ADA, conversation("other"), [message("m0"), message("m1699")], [])

    async def test_one_with_a_running_turn_is_not_deleted(self, store: Store) -> None:
        await begin(store)
        with pytest.raises(BusyError):
            await store.delete(ADA, "c")
        assert (await store.turn(ADA, "turn_1")).status is Status.RUNNING


class Branches:
    """Walks through the tree of messages."""

    @pytest.mark.parametrize("limit", [1, 3, 4, 5, 50])
    async def test_a_branch_comes_newest_first(self, store: Store, limit: int) -> None:
        await chain(store, ["1", "2"])
        await exchange(store, "beside", parent="a_1")
        found = await store.branch(ADA, "c", "a_2", limit=limit)
        assert [m.id for m in found] == ["a_2", "q_2", "a_1", "q_1"][:limit]
        assert [m.depth for m in found] == [4, 3, 2, 1][:limit]
        assert [m.parent_id for m in found] == ["q_2", "a_1", "q_1", None][:limit]

    @pytest.mark.parametrize(
        ("tokens", "returned"), [(0, 1), (4, 1), (5, 2), (8, 2), (9, 3), (11, 3), (12, 4), (99, 5)]
    )
    async def test_a_branch_ends_with_the_first_message_too_many(
        self, store: Store, tokens: int, returned: int
    ) -> None:
        sizes = [8, 1, 3, 4, 5]  # from the root; upwards they sum up to 5, 9, 12, 13, 21
        parents = [None, "m0", "m1", "m2", "m3"]
        line = [
            message(f"m{n}", parent, tokens=size)
            for n, (parent, size) in enumerate(zip(parents, sizes, strict=True))
        ]
        await store.put(ADA, conversation(), line, [])
        found = await store.branch(ADA, "c", "m4", limit=50, tokens=tokens)
        assert [m.id for m in found] == ["m4", "m3", "m2", "m1", "m0"][:returned]

    async def test_no_leaf_is_no_branch(self, store: Store) -> None:
        await exchange(store)
        assert list(await store.branch(ADA, "c", None, limit=5)) == []

    async def test_siblings_are_all_children_oldest_first(self, store: Store) -> None:
        await chain(store, ["1", "2"])
        await exchange(store, "3", parent="a_1")
        await exchange(store, "4")
        await store.begin(ADA, turn("5", question="q_1"), None)
        await store.end(ADA, "turn_5", outcome("5"))
        found = await store.siblings(ADA, "c", [None, "q_1", "a_1", "a_2", "a_1"])
        assert {parent: list(ids) for parent, ids in found.items()} == {
            None: ["q_1", "q_4"],
            "q_1": ["a_1", "a_5"],
            "a_1": ["q_2", "q_3"],
            "a_2": [],
        }

    async def test_what_is_no_message_here_has_no_children(self, store: Store) -> None:
        await exchange(store)
        await exchange(store, "2", into="other")
        unknown = ["nope", "", "q_2"]
        assert await store.siblings(ADA, "c", unknown) == {one: [] for one in unknown}

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    async def test_every_text_comes_back_as_it_was(self, store: Store, text: str) -> None:
        await begin(store, content=text)
        await store.checkpoint([Piece(ADA, "turn_1", 0, text)])
        assert (await store.turn(ADA, "turn_1")).answer == text
        await store.end(ADA, "turn_1", outcome("1", text))
        assert [m.content for m in await store.branch(ADA, "c", "a_1", limit=2)] == [text, text]
        assert (await store.turn(ADA, "turn_1")).answer == text
        await store.delete(ADA, "c")

    async def test_parts_come_back_as_they_were(self, store: Store) -> None:
        await begin(store, content=PARTS)
        assert (await store.message(ADA, "c", "q_1")).content == PARTS

    async def test_a_summary_is_no_message_of_the_list(self, store: Store) -> None:
        await chain(store, ["1", "2"])
        before = await store.conversation(ADA, "c")
        for name, parent, stands_for in (("s_1", "a_1", 2), ("s_2", "a_2", 4), ("s_3", "a_1", 2)):
            summary = message(name, parent, Role.SYSTEM, "In short", stands_for=stands_for)
            assert (await store.summarise(ADA, summary)).id == name

        found = await store.summaries(ADA, "c", limit=2)
        assert [(m.id, m.stands_for, m.parent_id) for m in found] == [
            ("s_2", 4, "a_2"),
            ("s_3", 2, "a_1"),
        ]
        assert await store.conversation(ADA, "c") == before
        assert await store.siblings(ADA, "c", ["a_1"]) == {"a_1": ["q_2"]}

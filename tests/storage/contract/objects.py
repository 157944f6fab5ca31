"""The part of the store's contract that is about things at upstreams; see `test_contract.py`."""

from __future__ import annotations

import asyncio

from storage.model import UpstreamObject
from storage.port import Store
from tests.storage.nouns import ADA, BOB


def named(id_: str, upstream: str = "openai", kind: str = "files") -> UpstreamObject:
    return UpstreamObject(id_, kind, upstream)


class UpstreamObjects:
    """Kept by whoever came first, told to nobody else, forgotten with what they were under."""

    async def test_they_are_their_owners_alone(self, store: Store) -> None:
        await store.remember_objects(ADA, [named("file-1"), named("vs_1", kind="stores")], 1)
        asked = {"file-1", "vs_1", "file-2"}
        mine = await store.own_objects(ADA, asked)
        assert mine == [named("file-1"), named("vs_1", kind="stores")]
        assert await store.own_objects(BOB, asked) == []
        assert await store.own_objects(ADA, ()) == []

    async def test_who_comes_second_takes_nothing_over(self, store: Store) -> None:
        await store.remember_objects(ADA, [named("file-1")], 1)
        await store.remember_objects(BOB, [named("file-1"), named("file-2")], 2)
        assert await store.own_objects(ADA, {"file-1"}) == [named("file-1")]
        assert await store.own_objects(BOB, {"file-1", "file-2"}) == [named("file-2")]

    async def test_of_two_at_once_one_has_it(self, store: Store) -> None:
        await asyncio.gather(
            *(store.remember_objects(f"o{n}", [named("file-1")], n) for n in range(20))
        )
        owners = [n for n in range(20) if await store.own_objects(f"o{n}", {"file-1"})]
        assert len(owners) == 1

    async def test_two_upstreams_may_have_the_same_id(self, store: Store) -> None:
        await store.remember_objects(ADA, [named("file-1")], 1)
        await store.remember_objects(BOB, [named("file-1", "other")], 1)
        assert await store.own_objects(BOB, {"file-1"}) == [named("file-1", "other")]
        await store.forget_object(BOB, "openai", "file-1")
        assert await store.own_objects(ADA, {"file-1"}) == [named("file-1")]

    async def test_what_was_under_one_is_forgotten_with_it(self, store: Store) -> None:
        await store.remember_objects(ADA, [named("resp_1"), named("resp_2")], 1)
        await store.remember_objects(ADA, [named("msg_1")], 2, under="resp_1")
        await store.remember_objects(ADA, [named("msg_2")], 2, under="resp_2")
        await store.remember_objects(BOB, [named("msg_3")], 2, under="resp_1")
        await store.forget_object(ADA, "openai", "resp_1")
        await store.forget_object(ADA, "openai", "resp_1")
        assert await store.own_objects(ADA, {"resp_1", "msg_1"}) == []
        assert await store.own_objects(ADA, {"msg_2"}) == [named("msg_2")]
        assert await store.own_objects(BOB, {"msg_3"}) == [named("msg_3")]

    async def test_nobody_forgets_anothers(self, store: Store) -> None:
        await store.remember_objects(ADA, [named("file-1")], 1)
        await store.forget_object(BOB, "openai", "file-1")
        assert await store.own_objects(ADA, {"file-1"}) == [named("file-1")]

    async def test_kinds_are_told_apart(self, store: Store) -> None:
        await store.remember_objects(ADA, [named("file-1")], 1)
        assert await store.has_objects(ADA, "files")
        assert not await store.has_objects(ADA, "batches")
        assert not await store.has_objects(BOB, "files")

    async def test_who_has_something_is_known(self, store: Store) -> None:
        assert await store.object_owners() == []
        for number in range(5):
            await store.remember_objects(BOB, [named(f"b{number}")], 1)
        await store.remember_objects(ADA, [named("file-1")], 1)
        assert sorted(await store.object_owners()) == sorted([ADA, BOB])

"""The part of the store's contract about responses: records, free turns, what is in no list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from storage.model import Query, Role, Status, Turn
from storage.port import BusyError, NotFoundError, Store
from tests.storage.nouns import (
    ADA,
    BOB,
    begin,
    chain,
    claim,
    conversation,
    exchange,
    message,
    outcome,
    turn,
)

RECORD = {"background": True, "metadata": {"a": "b"}}


async def _free(
    store: Store, name: str, parent: str | None = "a_1", into: str = "c", **fields: Any
) -> Turn:
    """Begin a turn that runs beside others, with something said before its question."""
    id_ = f"turn_{name}"
    before = message(f"b_{name}", parent, conversation_id=into, turn_id=id_, created_at=5)
    question = message(f"q_{name}", before.id, conversation_id=into, turn_id=id_)
    free = replace(turn(name, into), free=True, **fields)
    return await store.begin(ADA, free, question, before=[before])


async def _unlisted(store: Store, name: str = "1", into: str = "u", at: int = 1) -> Turn:
    made = conversation(into, at, unlisted=True)
    question = message(f"q_{name}", conversation_id=into, turn_id=f"turn_{name}")
    new = replace(turn(name, into), record=RECORD)
    await store.begin(ADA, new, question, conversation=made)
    return await store.end(ADA, new.id, outcome(name))


class Responses:
    """A turn may be told as a response of OpenAI's API."""

    async def test_a_record_is_kept_with_its_turn(self, store: Store) -> None:
        ended = await _unlisted(store)
        assert (ended.record, ended.deleted, ended.free) == (RECORD, False, False)
        assert await store.turn(ADA, ended.id) == ended
        assert (await exchange(store, "2")).record is None

    async def test_a_deleted_one_is_a_turn_still(self, store: Store) -> None:
        await _unlisted(store)
        await exchange(store, "2")
        assert await store.delete_response(ADA, "turn_2") is None
        assert (await store.turn(ADA, "turn_2")).deleted
        assert (await store.turn(ADA, "turn_2")).answer == "Hi"
        with pytest.raises(NotFoundError):
            await store.delete_response(BOB, "turn_1")
        with pytest.raises(NotFoundError):
            await store.delete_response(ADA, "turn_x")

    async def test_the_last_of_an_unlisted_conversation_names_it(self, store: Store) -> None:
        await _unlisted(store)
        await _free(store, "2", into="u")
        await store.end(ADA, "turn_2", outcome("2"))
        assert await store.delete_response(ADA, "turn_1") is None
        assert await store.delete_response(ADA, "turn_2") == "u"
        assert (await store.turn(ADA, "turn_1")).record is None
        await store.delete(ADA, "u")
        with pytest.raises(NotFoundError):
            await store.turn(ADA, "turn_1")

    async def test_what_is_unlisted_is_in_no_list(self, store: Store) -> None:
        await _unlisted(store)
        await exchange(store, "2")
        assert (await store.conversation(ADA, "u")).unlisted
        page = await store.conversations(ADA, limit=10)
        assert [one.id for one in page.items] == ["c"]
        found = await store.search(ADA, Query("Hello"), limit=10)
        assert {hit.conversation_id for hit in found.items} == {"c"}
        named = await store.search(ADA, Query("Hello", conversation_id="u"), limit=10)
        assert {hit.conversation_id for hit in named.items} == {"u"}
        await store.update(ADA, "u", {"title": "elephant"}, 3)
        assert (await store.conversations(ADA, limit=10, q="elephant")).items == ()

    async def test_old_ones_are_told_with_their_owners(self, store: Store) -> None:
        await _unlisted(store, "1", "u", 1)
        await _unlisted(store, "2", "v", 1)
        await exchange(store, "3")
        assert sorted(await store.expired(100, limit=10)) == [(ADA, "u"), (ADA, "v")]
        assert len(await store.expired(100, limit=1)) == 1
        assert await store.expired(5, limit=10) == []
        await store.delete(ADA, "u")
        assert await store.expired(100, limit=10) == [(ADA, "v")]

    async def test_a_message_is_found_wherever_it_is(self, store: Store) -> None:
        await _unlisted(store)
        said = message("m", "a_1", conversation_id="u", item={"role": "developer"})
        await store.begin(ADA, turn("2", "u", "m"), said)
        found = await store.find_message(ADA, "m")
        assert (found.conversation_id, found.item) == ("u", {"role": "developer"})
        assert (await store.find_message(ADA, "q_1")).item is None
        for owner, name in ((BOB, "m"), (ADA, "x")):
            with pytest.raises(NotFoundError):
                await store.find_message(owner, name)


class ImportedResponses:
    """They come with their conversations."""

    async def test_record_and_items_are_put(self, store: Store) -> None:
        said = [message("q", item={"role": "developer"}), message("a", "q", Role.ASSISTANT)]
        plain = replace(turn("1", question="q"), status=Status.COMPLETED, answer_id="a")
        turns = [
            replace(plain.saying("Hello"), ended_at=9, record=RECORD),
            replace(plain.saying("Hello"), ended_at=9, id="turn_2"),
        ]
        await store.put(ADA, conversation(head_id="a"), said, turns)
        assert (await store.turn(ADA, "turn_1")).record == RECORD
        assert (await store.turn(ADA, "turn_2")).record is None
        assert (await store.message(ADA, "c", "q")).item == {"role": "developer"}


class FreeTurns:
    """They run beside others, as branches of one conversation."""

    async def test_many_run_at_once_beside_one_that_takes_the_place(self, store: Store) -> None:
        await exchange(store)
        await begin(store, "2", parent="a_1")
        for name in ("3", "4"):
            await _free(store, name)
        with pytest.raises(BusyError):
            await begin(store, "5", parent="a_1")
        assert len(await store.running()) == 3
        await store.end(ADA, "turn_3", outcome("3"))
        with pytest.raises(BusyError):
            await begin(store, "6", parent="a_1")
        await store.end(ADA, "turn_2", outcome("2"))
        with pytest.raises(BusyError):
            await store.delete(ADA, "c")
        await begin(store, "7", parent="a_2")
        await store.end(ADA, "turn_4", outcome("4"))
        await store.end(ADA, "turn_7", outcome("7"))
        await store.delete(ADA, "c")

    async def test_the_head_of_a_listed_conversation_stays(self, store: Store) -> None:
        await exchange(store)
        await _free(store, "2")
        assert (await store.conversation(ADA, "c")).head_id == "a_1"
        ended = await store.end(ADA, "turn_2", outcome("2"))
        there = await store.conversation(ADA, "c")
        assert (there.head_id, there.message_count, ended.free) == ("a_1", 5, True)
        branch = await store.branch(ADA, "c", "a_2", limit=9)
        assert [one.id for one in branch] == ["a_2", "q_2", "b_2", "a_1", "q_1"]

    async def test_the_head_of_an_unlisted_one_goes_along(self, store: Store) -> None:
        await _unlisted(store)
        await _free(store, "2", into="u")
        assert (await store.conversation(ADA, "u")).head_id == "q_2"
        await store.end(ADA, "turn_2", outcome("2"))
        assert (await store.conversation(ADA, "u")).head_id == "a_2"

    @pytest.mark.parametrize("listed", [True, False])
    async def test_one_that_is_taken_back_leaves_nothing(self, store: Store, listed: bool) -> None:
        into = "c" if listed else "u"
        await (exchange(store) if listed else _unlisted(store))
        await _free(store, "2", into=into)
        await _free(store, "3", into=into, record=RECORD)
        await store.withdraw(ADA, "turn_3", head_id="q_2" if not listed else "a_1")
        await store.withdraw(ADA, "turn_2", head_id="a_1")
        there = await store.conversation(ADA, into)
        assert (there.head_id, there.message_count) == ("a_1", 2)
        await store.delete(ADA, into)

    async def test_a_claim_is_for_one(self, store: Store) -> None:
        await exchange(store)
        question = message("q_2", "a_1", turn_id="turn_2")
        free = replace(turn("2"), free=True, record=RECORD)
        await store.begin(ADA, free, question, claim=claim())
        assert await store.claimed(ADA, claim()) == "turn_2"


class Items:
    """Messages of no turn: added, read from the root on, erased."""

    async def test_they_are_added_under_the_head(self, store: Store) -> None:
        await store.create(ADA, conversation())
        said = [message("m1"), message("m2", "m1", Role.ASSISTANT, "elephant")]
        await store.append(ADA, "c", said, title="Hello", now=7)
        there = await store.conversation(ADA, "c")
        assert (there.head_id, there.message_count, there.title) == ("m2", 2, "Hello")
        await store.append(ADA, "c", [message("m3", "m2")], title="Other", now=8)
        there = await store.conversation(ADA, "c")
        assert (there.head_id, there.title, there.updated_at) == ("m3", "Hello", 8)
        for owner, into, parent in ((BOB, "c", None), (ADA, "x", None), (ADA, "c", "x")):
            with pytest.raises(NotFoundError):
                await store.append(owner, into, [message("m4", parent)], title="", now=9)

    async def test_a_branch_is_read_from_its_root(self, store: Store) -> None:
        await chain(store, "123")
        await exchange(store, "4", parent="a_1")  # another branch, which is the head's now

        async def read(leaf: str, below: int, limit: int = 9) -> list[str]:
            found = await store.downwards(ADA, "c", leaf, below=below, limit=limit)
            return [one.id for one in found]

        assert await read("a_3", 0) == ["q_1", "a_1", "q_2", "a_2", "q_3", "a_3"]
        assert await read("a_4", 0) == ["q_1", "a_1", "q_4", "a_4"]
        assert await read("a_3", 1, 2) == ["a_1", "q_2"]
        assert await read("a_3", 4) == ["q_3", "a_3"]
        assert await read("a_4", 0, 2) == ["q_1", "a_1"]
        assert await read("a_4", 4) == []
        summary = message("s", "a_1", Role.SYSTEM, stands_for=2)
        await store.summarise(ADA, summary)
        assert await read("a_3", 1, 3) == ["a_1", "q_2", "a_2"]
        with pytest.raises(NotFoundError):
            await store.downwards(BOB, "c", "a_3", below=0, limit=9)

    async def test_what_was_said_is_erased(self, store: Store) -> None:
        await exchange(store, content="elephant")
        erased = [{"type": "erased"}]
        await store.rewrite(ADA, "c", "q_1", erased, 0)
        assert (await store.message(ADA, "c", "q_1")).content == erased
        assert (await store.search(ADA, Query("elephant"), limit=9)).items == ()
        await store.rewrite(ADA, "c", "a_1", erased, 0)
        said = [replace(message("s_1", "a_1", Role.SYSTEM), item={"encrypted_content": "x"})]
        said += [replace(message("s_2", "s_1", Role.ASSISTANT), item={"phase": "commentary"})]
        await store.append(ADA, "c", said, title="", now=9)
        for one, left in zip(said, (None, {"phase": "commentary"}), strict=True):
            await store.rewrite(ADA, "c", one.id, erased, 0)
            assert (await store.message(ADA, "c", one.id)).item == left
        assert (await store.turn(ADA, "turn_1")).parts == erased
        await store.delete(ADA, "c")
        with pytest.raises(NotFoundError):
            await store.rewrite(ADA, "c", "q_1", erased, 0)

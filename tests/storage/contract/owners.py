"""The part of the store's contract that keeps owners apart; see `test_contract.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from storage.model import Query, Role
from storage.port import (
    NotFoundError,
    Piece,
    Store,
)
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

#: Everything that can be done to Ada's conversation, message or turn by whoever knows its id.
REACHES: dict[str, Callable[[Store, str], Awaitable[Any]]] = {
    "conversation": lambda s, o: s.conversation(o, "c"),
    "conversations": lambda s, o: s.conversations(o, limit=5, after="c"),
    "update": lambda s, o: s.update(o, "c", {"title": "mine"}, 9),
    "delete": lambda s, o: s.delete(o, "c"),
    "message": lambda s, o: s.message(o, "c", "q_1"),
    "branch": lambda s, o: s.branch(o, "c", "a_1", limit=5),
    "siblings": lambda s, o: s.siblings(o, "c", [None]),
    "begin": lambda s, o: s.begin(o, turn("2"), message("q_2")),
    "begin again": lambda s, o: s.begin(o, turn("2", question="q_1"), None),
    "end": lambda s, o: s.end(o, "turn_1", outcome("1")),
    "turn": lambda s, o: s.turn(o, "turn_1"),
    "next_turn": lambda s, o: s.next_turn(o, "c", None),
    "last_turn": lambda s, o: s.last_turn(o, "c"),
    "summarise": lambda s, o: s.summarise(o, message("s_1", "a_1", Role.SYSTEM, stands_for=2)),
    "summaries": lambda s, o: s.summaries(o, "c", limit=5),
    "every_message": lambda s, o: s.every_message(o, "c", after=None, limit=5),
    "every_turn": lambda s, o: s.every_turn(o, "c", after=None, limit=5),
}
#: The same under a message or behind a turn that is Ada's, in a conversation of one's own.
REACHES_FROM_ONES_OWN: dict[str, Callable[[Store, str], Awaitable[Any]]] = {
    "head": lambda s, o: s.update(o, "own", {"head_id": "q_1"}, 9),
    "message": lambda s, o: s.message(o, "own", "q_1"),
    "branch": lambda s, o: s.branch(o, "own", "a_1", limit=5),
    "parent": lambda s, o: begin(s, "2", owner=o, into="own", parent="a_1"),
    "question": lambda s, o: s.begin(o, turn("2", "own", question="q_1"), None),
    "put": lambda s, o: s.put(
        o, conversation("own"), [message("m", "q_1", conversation_id="own")], []
    ),
    "every_message": lambda s, o: s.every_message(o, "own", after="q_1", limit=5),
}


class Isolation:
    """Owners do not meet, whatever they name."""

    @pytest.mark.parametrize("reach", REACHES)
    async def test_what_is_anothers_is_not_found(self, store: Store, reach: str) -> None:
        await exchange(store)
        before = await store.conversation(ADA, "c")

        with pytest.raises(NotFoundError):
            await REACHES[reach](store, BOB)

        assert await store.conversation(ADA, "c") == before
        assert [m.id for m in await store.branch(ADA, "c", "a_1", limit=9)] == ["a_1", "q_1"]

    @pytest.mark.parametrize("reach", REACHES)
    async def test_what_is_not_there_is_not_found(self, store: Store, reach: str) -> None:
        with pytest.raises(NotFoundError):
            await REACHES[reach](store, ADA)

    @pytest.mark.parametrize("reach", REACHES_FROM_ONES_OWN)
    @pytest.mark.parametrize("owner", [ADA, BOB])
    async def test_another_conversations_messages_are_not_found(
        self, store: Store, reach: str, owner: str
    ) -> None:
        """...not even one's own: what hangs together is one conversation's."""
        await exchange(store)
        await store.create(owner, conversation("own"))

        with pytest.raises(NotFoundError):
            await REACHES_FROM_ONES_OWN[reach](store, owner)

        assert (await store.conversation(owner, "own")).message_count == 0

    async def test_two_owners_use_the_same_ids(self, store: Store) -> None:
        for owner, words in ((ADA, "of Ada"), (BOB, "of Bob")):
            await begin(store, owner=owner, content=words, claim=claim(fingerprint=words.encode()))
            await store.end(owner, "turn_1", outcome("1", words))

        await store.delete(ADA, "c")

        assert (await store.message(BOB, "c", "q_1")).content == "of Bob"
        assert (await store.turn(BOB, "turn_1")).answer == "of Bob"
        assert await store.claimed(BOB, claim(fingerprint=b"of Bob")) == "turn_1"
        assert (await store.conversation(BOB, "c")).message_count == 2

    async def test_lists_and_claims_are_ones_own(self, store: Store) -> None:
        await begin(store, content="elephant", claim=claim())

        assert (await store.conversations(BOB, limit=5)).items == ()
        assert await store.claimed(BOB, claim(fingerprint=b"other")) is None
        assert (await store.search(BOB, Query("elephant"), limit=5)).items == ()

    async def test_a_piece_for_anothers_turn_is_passed_over(self, store: Store) -> None:
        await begin(store)
        await store.checkpoint([Piece(BOB, "turn_1", 0, "stolen"), Piece(ADA, "none", 0, "lost")])
        assert (await store.turn(ADA, "turn_1")).answer == ""

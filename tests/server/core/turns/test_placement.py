"""Where a caller with a history of its own stands in ours."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.turns.placement import Placement, Utterance, _longest, place, same
from storage.model import Message, Role
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, conversation, message

WORDS = st.lists(st.sampled_from("ab"), max_size=9)


def longest(ours: Sequence[str], said: Sequence[str]) -> tuple[int, int]:
    """Find by trying all what the search finds in one walk."""
    found = (0, 0)
    for end in range(1, len(ours) + 1):
        for length in range(1, min(end, len(said)) + 1):
            if list(ours[end - length : end]) == list(said[:length]) and length >= found[1]:
                found = end, length
    return found


@given(WORDS, WORDS.filter(bool))
def test_the_longest_run_is_found_and_the_latest(ours: list[str], said: list[str]) -> None:
    kept: list[Message] = [message(f"m{n}", content=word) for n, word in enumerate(ours)]
    assert _longest(kept, [Utterance(Role.USER, word) for word in said]) == longest(ours, said)


async def test_an_empty_conversation_takes_all_of_it(store: SQLiteStore) -> None:
    await store.create(ADA, conversation())
    said = [Utterance(Role.USER, "1"), Utterance(Role.ASSISTANT, "2"), Utterance(Role.USER, "3")]
    assert await place(store, ADA, "c", None, said) == Placement(None, said[:-1])


def called(arguments: str, **more: object) -> Utterance:
    function = {"name": "f", "arguments": arguments}
    return Utterance(
        Role.ASSISTANT, [{"id": "c1", "type": "function", "function": function, **more}]
    )


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (called('{"a":1,"b":"x"}'), called('{ "b": "x", "a": 1 }'), True),
        (called('{"a":1}'), called('{"a":1}', index=0), True),
        (called('{"a":1}'), called('{"a":2}'), False),
        (called('{"a":1}'), called('{"a":true}'), False),
        (called('{"a":1}'), called('{"a":1}', id="c2"), False),
        (called("no JSON"), called("no JSON"), True),
        (called("no JSON"), called("no  JSON"), False),
        (called("[" * 100_000), called("[" * 100_000), True),
        (Utterance(Role.USER, "Hi "), Utterance(Role.USER, [{"type": "text", "text": "Hi"}]), True),
        (Utterance(Role.USER, "Hi"), Utterance(Role.ASSISTANT, "Hi"), False),
    ],
)
def test_what_says_the_same_is_the_same(one: Utterance, other: Utterance, is_same: bool) -> None:
    assert same(one, other) is is_same

"""Where a caller with a history of its own stands in ours."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from server.core.joining import Place, Said, _longest, place
from storage.model import Message, Role
from storage.sqlite import SQLiteStore
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
    assert _longest(kept, [Said(Role.USER, word) for word in said]) == longest(ours, said)


async def test_an_empty_conversation_takes_all_of_it(store: SQLiteStore) -> None:
    await store.create(ADA, conversation())
    said = [Said(Role.USER, "1"), Said(Role.ASSISTANT, "2"), Said(Role.USER, "3")]
    assert await place(store, ADA, "c", None, said) == Place(None, said[:-1])

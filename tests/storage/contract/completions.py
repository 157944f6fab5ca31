"""The part of the store's contract that is about stored completions; see `test_contract.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from storage.model import Completion, CompletionQuery
from storage.port import NotFoundError, Store
from tests.storage.nouns import ADA, BOB


def completion(name: str, model: str = "gpt-4o", **metadata: str) -> Completion:
    answer = {"id": name, "choices": [{"message": {"content": "Hé 🙂\x00 \ud83d"}}]}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    return Completion(name, model, 1, answer, messages, metadata)


REACHES: Mapping[str, Callable[[Store, str], Awaitable[Any]]] = {
    "completion": lambda s, o: s.completion(o, "x"),
    "completions": lambda s, o: s.completions(o, CompletionQuery(), limit=5, after="x"),
    "tag_completion": lambda s, o: s.tag_completion(o, "x", {}),
    "delete_completion": lambda s, o: s.delete_completion(o, "x"),
}


class StoredCompletions:
    """Kept, paged by model and metadata, labelled and deleted."""

    async def test_one_comes_back_as_it_was_kept(self, store: Store) -> None:
        kept = completion("x", a="1", b="ü")
        await store.keep_completion(ADA, kept)
        assert await store.completion(ADA, "x") == kept

    @pytest.mark.parametrize("oldest_first", [True, False])
    @pytest.mark.parametrize("limit", [1, 3, 4, 100])
    async def test_pages_are_exact(self, store: Store, limit: int, oldest_first: bool) -> None:
        names = [f"c{number}" for number in range(8)]
        for name in names:
            await store.keep_completion(ADA, completion(name))
        await store.keep_completion(BOB, completion("bobs"))
        wanted = CompletionQuery(oldest_first=oldest_first)
        found: list[str] = []
        more, after = True, None
        while more:
            page = await store.completions(ADA, wanted, limit=limit, after=after)
            found += [one.id for one in page.items]
            more, after = page.has_more, found[-1]
        assert found == (names if oldest_first else names[::-1])

    @pytest.mark.parametrize(
        ("wanted", "names"),
        [
            (CompletionQuery(model="gpt-4o"), ["a", "c", "d"]),
            (CompletionQuery(metadata={"team": "red"}), ["a", "b", "d"]),
            (CompletionQuery("gpt-4o", {"team": "red"}), ["a", "d"]),
            (CompletionQuery("gpt-4o", {"team": "red", "run": "1"}), ["a"]),
            (CompletionQuery(metadata={"team": "re"}), []),
            (CompletionQuery(model="other"), []),
        ],
    )
    async def test_they_are_found_by_model_and_metadata(
        self, store: Store, wanted: CompletionQuery, names: list[str]
    ) -> None:
        await store.keep_completion(ADA, completion("a", team="red", run="1"))
        await store.keep_completion(ADA, completion("b", "gpt-5", team="red"))
        await store.keep_completion(ADA, completion("c", team="blue"))
        await store.keep_completion(ADA, completion("d", team="red", run="2"))
        await store.keep_completion(BOB, completion("e", team="red", run="1"))
        page = await store.completions(ADA, wanted, limit=9)
        assert [one.id for one in page.items] == names

    @pytest.mark.parametrize("words", ["x' OR '1'='1", "team'; DROP TABLE completions; --"])
    async def test_what_is_looked_for_is_never_part_of_the_question(
        self, store: Store, words: str
    ) -> None:
        kept = [
            completion("named", **{words: "red"}),
            completion("valued", team=words),
            completion("modelled", words, x="red", team="red"),
            completion("otherwise", **{words: "blue"}),
        ]
        for one in kept:
            await store.keep_completion(ADA, one)
        await store.keep_completion(BOB, completion("bobs", words, team=words, **{words: "red"}))
        for wanted, name in (
            (CompletionQuery(metadata={words: "red"}), "named"),
            (CompletionQuery(metadata={"team": words}), "valued"),
            (CompletionQuery(model=words), "modelled"),
        ):
            page = await store.completions(ADA, wanted, limit=9)
            assert [one.id for one in page.items] == [name]
        assert list((await store.completions(ADA, CompletionQuery(), limit=9)).items) == kept

    async def test_metadata_is_replaced(self, store: Store) -> None:
        await store.keep_completion(ADA, completion("x", a="1", b="2"))
        changed = await store.tag_completion(ADA, "x", {"b": "3"})
        assert changed == await store.completion(ADA, "x") == completion("x", b="3")
        assert not (await store.completions(ADA, CompletionQuery(None, {"a": "1"}), limit=9)).items

    async def test_what_is_deleted_is_gone(self, store: Store) -> None:
        await store.keep_completion(ADA, completion("x", a="1"))
        await store.delete_completion(ADA, "x")
        assert not (await store.completions(ADA, CompletionQuery(), limit=9)).items
        await store.keep_completion(ADA, completion("x"))
        assert (await store.completion(ADA, "x")).metadata == {}

    @pytest.mark.parametrize("reach", REACHES)
    async def test_what_is_anothers_is_not_found(self, store: Store, reach: str) -> None:
        await store.keep_completion(ADA, completion("x"))
        with pytest.raises(NotFoundError):
            await REACHES[reach](store, BOB)
        assert await store.completion(ADA, "x") == completion("x")

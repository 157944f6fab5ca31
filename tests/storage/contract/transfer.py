"""The part of the store's contract about whole conversations and search; see `test_contract.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from storage.model import Conversation, Message, Query, Role, Status, Turn, Usage
from storage.port import AlreadyExistsError, NotFoundError, Store
from tests.storage.nouns import (
    ADA,
    BOB,
    CONTEXT,
    chain,
    conversation,
    exchange,
    message,
    turn,
    whole,
)

HEADED = conversation(title="Imported", system_prompt="Be.", head_id="b1", metadata={"from": "x"})
TREE = [
    message("q", content="What about elephants?"),
    message("a", "q", Role.ASSISTANT, "They are large."),
    message("b", "q", Role.ASSISTANT, "They are grey."),
    message("b1", "b", content="Thanks"),
]
TURN = replace(
    turn("1", question="q"),
    status=Status.CANCELLED,
    answer_id="a",
    answer="They are large.",
    usage=Usage(5, 4),
    context=replace(CONTEXT, counted="learnt", window_known=False),
    ended_at=8,
)


class Transfer:
    """Whole conversations, out and in."""

    async def test_all_that_is_put_comes_out(self, store: Store) -> None:
        assert await store.put(ADA, HEADED, TREE, [TURN])
        kept, messages, turns = await everything(store)
        assert kept == replace(HEADED, message_count=4, last_message_at=1)
        assert messages == [replace(m, depth=d) for m, d in zip(TREE, (1, 2, 2, 3), strict=True)]
        assert turns == [TURN]

    async def test_putting_it_again_keeps_nothing(self, store: Store) -> None:
        await store.put(ADA, HEADED, TREE, [TURN])
        before = await everything(store)
        assert not await store.put(ADA, HEADED, TREE, [TURN])
        assert await everything(store) == before

    async def test_only_what_is_missing_is_put(self, store: Store) -> None:
        mine = replace(HEADED, title="Mine", system_prompt=None, head_id="a")
        await store.put(ADA, mine, TREE[:2], [])
        assert await store.put(ADA, HEADED, TREE, [TURN])
        kept = await store.conversation(ADA, "c")
        assert (kept.title, kept.system_prompt, kept.head_id) == ("Mine", None, "a")
        assert kept.message_count == 4

    @pytest.mark.parametrize("count", [1, 2_500])
    async def test_one_without_a_head_gets_it(self, store: Store, count: int) -> None:
        headed, said = whole("c", count)
        await store.put(ADA, replace(headed, head_id=None), said, [])
        assert (await store.conversation(ADA, "c")).head_id is None
        with pytest.raises(NotFoundError):
            await store.put(ADA, replace(headed, head_id="nope"), said, [])
        assert await store.put(ADA, headed, said, [])
        assert (await store.conversation(ADA, "c")).head_id == said[-1].id
        assert not await store.put(ADA, replace(headed, head_id=said[0].id), said, [])
        assert (await store.conversation(ADA, "c")).head_id == said[-1].id

    async def test_an_id_of_another_conversation_keeps_nothing(self, store: Store) -> None:
        await store.put(ADA, HEADED, TREE, [TURN])
        with pytest.raises(AlreadyExistsError):
            await store.put(ADA, conversation("other"), [message("new"), message("a")], [])
        with pytest.raises(NotFoundError):
            await store.conversation(ADA, "other")

    async def test_a_missing_parent_keeps_nothing(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            await store.put(ADA, HEADED, [TREE[0], message("x", "nowhere")], [])
        with pytest.raises(NotFoundError):
            await store.conversation(ADA, "c")

    @pytest.mark.parametrize("apart", [1, 2_500])
    async def test_an_id_that_stands_twice_keeps_nothing(self, store: Store, apart: int) -> None:
        between = [message(f"m{number}") for number in range(apart)]
        for said, begun in (
            ([*TREE, *between, TREE[0]], []),
            ([*TREE, *between], [TURN, TURN]),
        ):
            with pytest.raises(AlreadyExistsError, match="twice"):
                await store.put(ADA, HEADED, said, begun)
            with pytest.raises(NotFoundError):
                await store.conversation(ADA, "c")

    @pytest.mark.parametrize("there", [True, False])
    async def test_a_parent_that_stands_behind_keeps_nothing(
        self, store: Store, there: bool
    ) -> None:
        if there:
            await store.put(ADA, HEADED, TREE, [])
        own, behind = message("x", "x"), [message("y", "z"), message("z")]
        for said in ([own], behind, [message("w"), own], [message("w"), *behind]):
            with pytest.raises(NotFoundError):
                await store.put(ADA, replace(HEADED, head_id=None), said, [])
            kept = await store.every_message(ADA, "c", after=None, limit=9) if there else TREE
            assert len(kept) == len(TREE)
        with pytest.raises(NotFoundError):
            await store.summarise(ADA, message("s", "s", stands_for=1))

    @pytest.mark.parametrize("limit", [1, 3, 7])
    async def test_all_branches_come_parent_first(self, store: Store, limit: int) -> None:
        await chain(store, ["z", "y"])
        await exchange(store, "x", parent="a_z")
        await exchange(store, "w")
        found: list[Message] = []
        while more := await store.every_message(
            ADA, "c", after=found[-1].id if found else None, limit=limit
        ):
            assert len(more) <= limit
            found += more
        assert sorted(m.id for m in found) == sorted(f"{kind}_{n}" for kind in "qa" for n in "wxyz")
        seen = {None} | set[str | None]()
        for one in found:
            assert one.parent_id in seen
            seen.add(one.id)

    async def test_turns_come_out_in_pages(self, store: Store) -> None:
        await chain(store, ["z", "y", "x"])
        first = await store.every_turn(ADA, "c", after=None, limit=2)
        rest = await store.every_turn(ADA, "c", after="turn_y", limit=2)
        assert [t.id for t in (*first, *rest)] == ["turn_z", "turn_y", "turn_x"]
        assert rest[0].answer == "Hi"


class Search:
    """Finding messages and titles again."""

    async def test_any_word_is_found_in_any_script(self, store: Store) -> None:
        texts = ["An elephant, grey", "象は大きい動物です", "الفيل حيوان كبير", "🐘 слон"]
        for number, text in enumerate(texts):
            await store.put(ADA, conversation(), [message(f"m{number}", content=text)], [])
        for number, words in enumerate(["ELEPH", "動物", "حيوان", "слон"]):
            page = await store.search(ADA, Query(words), limit=5)
            assert [hit.message and hit.message.id for hit in page.items] == [f"m{number}"]

    async def test_what_calls_and_refusals_say_is_found(self, store: Store) -> None:
        said: list[dict[str, Any]] = [
            {"type": "reasoning", "text": "giraffe"},
            {"type": "text", "text": "Looking"},
            {"type": "function", "function": {"name": "find_zebra", "arguments": '{"at": "Oslo"}'}},
            {"type": "custom", "custom": {"name": "run", "input": "ls"}},
            {"type": "refusal", "refusal": "Not the elephant"},
        ]
        answer = message("a", role=Role.ASSISTANT, content=said)
        result = [{"type": "text", "text": "18 C", "tool_call_id": "call_hippo"}]
        await store.put(ADA, conversation(), [answer, message("t", "a", Role.TOOL, result)], [])
        for words in ("zebra", "Oslo", "run ls", "elephant", "18 C"):
            assert (await store.search(ADA, Query(words), limit=5)).items, words
        for words in ("giraffe", "hippo"):
            assert not (await store.search(ADA, Query(words), limit=5)).items, words

    async def test_pages_of_hits_are_exact(self, store: Store) -> None:
        many = [message(f"m{n}", content="elephant " * (n + 1)) for n in range(7)]
        await store.put(ADA, conversation(), many, [])
        found, after, more = [], None, True
        while more:
            page = await store.search(ADA, Query("elephant"), limit=3, after=after)
            found += [hit.message.id for hit in page.items if hit.message]
            after, more = found[-1], page.has_more
        assert sorted(found) == [f"m{n}" for n in range(7)]

    async def test_a_page_behind_what_is_not_found_is_refused(self, store: Store) -> None:
        for name in ("c", "d"):
            said = message(f"{name}1", content="elephant", conversation_id=name)
            await store.put(ADA, conversation(name), [said], [])
        (first,) = (await store.search(ADA, Query("elephant"), limit=1)).items
        await store.delete(ADA, first.conversation_id)
        assert first.message is not None
        for after in (first.message.id, "nope"):
            with pytest.raises(NotFoundError) as refused:
                await store.search(ADA, Query("elephant"), limit=1, after=after)
            assert refused.value.param == "after"
        (left,) = (await store.search(ADA, Query("elephant"), limit=1)).items
        assert left.message is not None
        behind = await store.search(ADA, Query("elephant"), limit=1, after=left.message.id)
        assert (behind.items, behind.has_more) == ((), False)

    async def test_a_new_title_is_found_and_the_old_one_is_not(self, store: Store) -> None:
        await store.create(ADA, conversation(title="elephants"))
        await store.update(ADA, "c", {"title": "giraffes"}, 2)
        assert (await store.search(ADA, Query("elephants"), limit=5)).items == ()
        (hit,) = (await store.search(ADA, Query("giraffes"), limit=5)).items
        assert (hit.conversation_id, hit.title, hit.message) == ("c", "giraffes", None)

    @pytest.mark.parametrize(
        "words", ['"', "a AND", "NEAR(", "*", "col:x", "'; --", "-x", "\\", "🐘"]
    )
    async def test_no_words_are_a_query_language(self, store: Store, words: str) -> None:
        await store.put(ADA, conversation(), [message("m", content=f"say {words} so")], [])
        page = await store.search(ADA, Query(words), limit=5)
        assert len(page.items) <= 1
        assert (await store.search(BOB, Query(words), limit=5)).items == ()


class Health:
    """Whether a write would be kept."""

    async def test_a_ping_changes_nothing(self, store: Store) -> None:
        await store.put(ADA, HEADED, TREE, [TURN])
        before = await everything(store)
        await store.ping()
        assert await everything(store) == before


async def everything(store: Store) -> tuple[Conversation, list[Message], list[Turn]]:
    return (
        await store.conversation(ADA, "c"),
        list(await store.every_message(ADA, "c", after=None, limit=1000)),
        list(await store.every_turn(ADA, "c", after=None, limit=1000)),
    )

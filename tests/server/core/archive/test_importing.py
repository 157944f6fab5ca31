"""An import keeps what can be kept, says what cannot, and changes nothing the second time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.core.archive.importing import MOST_FAILED, MOST_NAMES, OTHER, Report, import_
from server.core.archive.records import Found
from storage.model import Conversation
from storage.port import UnavailableError
from storage.sqlite.conversations import STEP_ROWS
from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.chatgpt_sample import ID, WHOLE, conversation, node, uuid
from tests.server.core.archive.files import count, dumped, everything, exported, imported, pieces
from tests.storage.nouns import conversation as plain
from tests.storage.nouns import message
from tests.storage.stepping import Stepping


def chat(name: str, *nodes: dict[str, object]) -> dict[str, object]:
    return conversation(*nodes, id=name, conversation_id=name)


async def test_an_import_and_the_same_again(store: SQLiteStore) -> None:
    report = await imported(store, [WHOLE, None])
    assert report.rendered() == {
        "imported": 1,
        "unchanged": 0,
        "failed": [
            {"index": 1, "id": None, "reason": "mapping must be an object of nodes."},
        ],
        "failed_count": 1,
        "dropped": {"image_asset_pointer": 1, "recipient": 1, "author_name": 1, "citation": 1},
    }
    before = await exported(store)
    again = await imported(store, [WHOLE])
    assert again.rendered() == {
        "imported": 0,
        "unchanged": 1,
        "failed": [],
        "failed_count": 0,
        "dropped": {},
    }
    assert await exported(store) == before


async def test_the_messages_are_kept_as_a_tree(store: SQLiteStore) -> None:
    await imported(store, [WHOLE])
    there = await store.conversation("anna", ID)
    assert (there.head_id, there.message_count) == (uuid(11), 10)
    branch = await store.branch("anna", ID, there.head_id, limit=100)
    assert [one.id for one in branch] == [uuid(n) for n in (11, 9, 8, 7, 6, 4, 2)]


async def test_a_conversation_that_grew_is_added_to(store: SQLiteStore) -> None:
    await imported(store, [chat("c", node(1, None))])
    grown = chat("c", node(1, None), node(2, 1))
    assert (await imported(store, [{**grown, "title": "Another"}])).imported == 1
    there = await store.conversation("anna", "c")
    assert (there.message_count, there.title) == (2, "Painting a fence")


async def test_a_chat_that_was_branched_off_keeps_its_messages(store: SQLiteStore) -> None:
    both = [chat("c", node(1, None), node(2, 1)), chat("d", node(1, None), node(3, 1))]
    report = await imported(store, both)
    assert (report.imported, report.failures) == (2, 0)
    assert report.dropped == {"message_id": 2}
    messages, _ = await everything(store, "anna", "d")
    assert [one.content for one in messages] == ["text 1", "text 3"]
    assert messages[1].parent_id == messages[0].id
    assert (await store.conversation("anna", "d")).head_id == messages[1].id
    assert (await imported(store, both)).unchanged == 2


async def test_ids_of_another_conversation_fail_by_their_place(store: SQLiteStore) -> None:
    await store.put("anna", plain("c", head_id="m"), [message("m")], [])
    file = (await exported(store)).replace(b'"id":"c"', b'"id":"d"')
    report = await imported(store, file)
    assert [(one.index, one.id) for one in report.failed] == [(0, "d")]
    assert "'m' stands in another conversation" in report.failed[0].reason


async def test_other_owners_are_apart(store: SQLiteStore) -> None:
    assert (await imported(store, [WHOLE], owner="anna")).imported == 1
    assert (await imported(store, [WHOLE], owner="bob")).imported == 1


async def test_failures_are_told_up_to_a_number(store: SQLiteStore) -> None:
    report = await imported(store, [WHOLE, *[None] * (MOST_FAILED + 5)])
    assert (report.imported, report.failures, len(report.failed)) == (1, 1_005, 1_000)
    assert report.rendered()["failed_count"] == 1_005


def test_names_are_told_up_to_a_number() -> None:
    report = Report()
    for number in range(MOST_NAMES + 10):
        report.drop(Found(0, plain(), [], dropped={f"type{number}": 2, "type0": 1}))
    assert len(report.dropped) == MOST_NAMES + 1
    assert report.dropped[OTHER] == 20
    assert report.dropped["type0"] == MOST_NAMES + 10


def long_chat(name: str) -> dict[str, object]:
    """Return a chat that is kept in more than one step."""
    return chat(name, *(node(n, n - 1 if n > 1 else None) for n in range(1, 2 * STEP_ROWS)))


async def test_a_file_imported_twice_at_once_is_kept_once(store: SQLiteStore) -> None:
    file = [long_chat("c"), long_chat("c")]
    reports = await asyncio.gather(*(imported(store, file) for _ in range(2)))
    assert sum(report.imported for report in reports) == 1
    assert sum(report.unchanged for report in reports) == 3
    assert [report.failed for report in reports] == [[], []]
    assert (await store.conversation("anna", "c")).message_count == 2 * STEP_ROWS - 1


async def test_a_long_chat_that_was_branched_off_keeps_its_messages(store: SQLiteStore) -> None:
    report = await imported(store, [long_chat("c"), long_chat("d")])
    assert (report.imported, report.failures) == (2, 0)
    assert report.dropped == {"message_id": 2 * STEP_ROWS - 1}
    assert (await imported(store, [long_chat("c"), long_chat("d")])).unchanged == 2


async def test_one_that_is_deleted_while_it_is_added_to_is_told_as_failed(tmp_path: Path) -> None:
    async with Stepping(tmp_path / "t.db") as store:
        await imported(store, [chat("c", node(1, None))])
        store.halt()
        importing = asyncio.create_task(imported(store, [long_chat("c")]))
        await store.step()
        deleting = asyncio.create_task(store.delete("anna", "c"))
        while (await store.conversations("anna", limit=1)).items:
            await asyncio.sleep(0)
        store.go()
        await deleting
        report = await importing
        assert [(one.index, one.id, one.reason) for one in report.failed] == [
            (0, "c", "The conversation was deleted meanwhile.")
        ]
        assert (await imported(store, [long_chat("c")])).imported == 1


async def test_progress(store: SQLiteStore) -> None:
    told: list[int] = []
    data = dumped([WHOLE, None, WHOLE])
    await import_(store, "anna", pieces(data), count, told.append)
    assert told == [1, 2, 3]


class Failing(SQLiteStore):
    """A store whose disk fills up."""

    async def put(
        self, owner: str, conversation: Conversation, messages: object, turns: object
    ) -> bool:
        if conversation.id == "full":
            raise UnavailableError("The disk is full.")
        return await super().put(owner, conversation, messages, turns)  # type: ignore[arg-type]


async def test_a_store_that_fails_ends_the_import(tmp_path: Path) -> None:
    async with Failing(tmp_path / "t.db") as store:
        with pytest.raises(UnavailableError):
            await imported(store, [chat("c", node(1, None)), chat("full"), chat("d")])
        assert [one.id for one in (await store.conversations("anna", limit=9)).items] == ["c"]

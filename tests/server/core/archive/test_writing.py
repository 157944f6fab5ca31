"""Exports for reading and for training, and what any export does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from server.core.archive.writing import write
from server.core.errors import InvalidRequestError
from storage.model import Conversation, Message, Role
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.files import exported, imported
from tests.storage.nouns import message

MINUTE = 60_000_000
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

SAID = [
    message("q", content="Why?", conversation_id="c"),
    message("a1", "q", Role.ASSISTANT, "First", model="gpt-4o"),
    message("a2", "q", Role.ASSISTANT, "So.", model="o3"),
    message("t", "a2", Role.TOOL, "42"),
    message("q2", "t", content=[{"type": "text", "text": "And this?"}, PICTURE, INLINE]),
]
THERE = Conversation("c", "Why\nand how", "Be brief.", "gpt-4o", {}, MINUTE, MINUTE, head_id="q2")


async def keep(store: SQLiteStore, id_: str, at: int, *said: Message, title: str = "") -> None:
    there = Conversation(id_, title, None, None, {}, at, at, head_id=said[-1].id if said else None)
    await store.put("anna", there, [replace(one, conversation_id=id_) for one in said], [])


async def test_lines_for_training(store: SQLiteStore) -> None:
    await store.put("anna", THERE, SAID, [])
    await keep(store, "empty", 0)
    await keep(store, "tool", 1, message("t1", role=Role.TOOL))
    await keep(store, "late", 2 * MINUTE, message("l", content="ä"))
    first, second = (json.loads(line) for line in (await exported(store, "jsonl")).splitlines())
    assert first == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "So."},
            {"role": "user", "content": [{"type": "text", "text": "And this?"}, PICTURE, INLINE]},
        ]
    }
    assert second == {"messages": [{"role": "user", "content": "ä"}]}


async def test_markdown_for_reading(store: SQLiteStore) -> None:
    await store.put("anna", THERE, SAID, [])
    await keep(store, "late", 2 * MINUTE, message("l", content="Hello"))
    assert (await exported(store, "markdown")).decode() == (
        "# Why and how\n\n*1970-01-01 00:01 UTC · gpt-4o*\n\n"
        "## System\n\nBe brief.\n\n"
        "## User\n\nWhy?\n\n"
        "## Assistant (o3)\n\nSo.\n\n"
        "## Tool\n\n42\n\n"
        "## User\n\nAnd this?\n\n![image](https://example.org/a.png)\n\n*(image_url)*\n"
        "\n---\n\n"
        "# late\n\n*1970-01-01 00:02 UTC*\n\n"
        "## User\n\nHello\n"
    )


LOOK = {"name": "look", "arguments": '{\n"city": "Oslo"}'}
CALL: dict[str, Any] = {"type": "function", "id": "call_1", "function": LOOK}
WITH_TOOLS = [
    message("u", content="Weather?"),
    message("a", parent="u", role=Role.ASSISTANT, content=[{"type": "text", "text": "So."}, CALL]),
    message(
        "t",
        parent="a",
        role=Role.TOOL,
        content=[{"type": "text", "text": "18 C", "tool_call_id": "call_1"}],
    ),
    message(
        "b",
        parent="t",
        role=Role.ASSISTANT,
        content=[{"type": "reasoning", "text": "Hm,\nno"}, {"type": "refusal", "refusal": "No."}],
    ),
]


async def test_lines_for_training_have_calls_and_results_in_openais_shape(
    store: SQLiteStore,
) -> None:
    await keep(store, "c", 1, *WITH_TOOLS)
    (line,) = (await exported(store, "jsonl")).splitlines()
    assert json.loads(line)["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "So.", "tool_calls": [CALL]},
        {"role": "tool", "content": "18 C", "tool_call_id": "call_1"},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]


async def test_markdown_names_calls_and_what_they_are_called_with(store: SQLiteStore) -> None:
    custom = {"type": "custom", "id": "x", "custom": {"name": "run", "input": "ls"}}
    last = message("c", parent="b", role=Role.ASSISTANT, content=[custom, {"type": "function"}])
    await keep(store, "c", 1, *WITH_TOOLS, last)
    said = (await exported(store, "markdown")).decode().partition("## Assistant")[2]
    assert said == (
        '\n\nSo.\n\n*calls look*\n\n    {\n    "city": "Oslo"}\n\n'
        "## Tool\n\n18 C\n\n"
        "## Assistant\n\n> Hm,\n> no\n\nNo.\n\n"
        "## Assistant\n\n*calls run*\n\n    ls\n\n*(function)*\n"
    )


async def test_json_has_all_branches_and_what_import_asks_for(store: SQLiteStore) -> None:
    await store.put("anna", THERE, SAID, [])
    told = json.loads(await exported(store))
    assert (told["format"], told["version"]) == ("trialogue", 1)
    (one,) = told["conversations"]
    assert (one["id"], one["head_id"], one["turns"]) == ("c", "q2", [])
    assert [said["id"] for said in one["messages"]] == ["q", "a1", "a2", "t", "q2"]
    assert one["messages"][0]["encoding"] == "o200k_base"
    assert one["created_at"] == "1970-01-01T00:01:00.000000Z"


async def test_the_oldest_comes_first(store: SQLiteStore) -> None:
    for number in (3, 1, 2):
        await keep(store, f"c{number}", number)
    told = json.loads(await exported(store))
    assert [one["id"] for one in told["conversations"]] == ["c1", "c2", "c3"]


async def test_one_conversation(store: SQLiteStore) -> None:
    await keep(store, "c1", 1)
    await keep(store, "c2", 2)
    told = json.loads(await exported(store, conversation_id="c2"))
    assert [one["id"] for one in told["conversations"]] == ["c2"]


@pytest.mark.parametrize(
    ("format_", "file"),
    [
        ("json", b'{"format":"trialogue","version":1,"conversations":[]}\n'),
        ("jsonl", b""),
        ("markdown", b""),
    ],
)
async def test_nothing(store: SQLiteStore, format_: str, file: bytes) -> None:
    assert await exported(store, format_) == file


async def test_refusals_come_before_the_first_byte(store: SQLiteStore) -> None:
    await keep(store, "c", 1)
    with pytest.raises(NotFoundError):
        await anext(write(store, "bob", "json", "c"))
    with pytest.raises(InvalidRequestError, match="format must be one of json, jsonl, markdown"):
        await anext(write(store, "anna", "xml", "c"))
    with pytest.raises(InvalidRequestError):
        await anext(write(store, "anna", "json", "no/id"))


async def test_progress(store: SQLiteStore) -> None:
    for number in range(3):
        await keep(store, f"c{number}", number)
    told: list[int] = []
    assert [piece async for piece in write(store, "anna", "jsonl", None, told.append)] == []
    assert told == [1, 2, 3]


@pytest.mark.parametrize("format_", ["json", "jsonl", "markdown"])
async def test_what_is_deleted_meanwhile_is_left_out(store: SQLiteStore, format_: str) -> None:
    for number in range(3):
        await keep(store, f"c{number}", number, message(f"m{number}", content="x" * 10))
    file = b""
    written = write(store, "anna", format_)
    async for piece in written:
        file += piece
        if await there(store, "c1"):
            await store.delete("anna", "c1")
    assert b"m1" not in file
    if format_ == "json":
        assert (await imported(store, file, owner="bob")).imported == 2


async def there(store: SQLiteStore, id_: str) -> bool:
    return id_ in [one.id for one in (await store.conversations("anna", limit=9)).items]

"""EasyBackend's histories come in, whole folders and single files."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.archive.records import Found
from storage.model import Role
from storage.sqlite.store import SQLiteStore
from tests.server.core.archive.files import CHAT, NOW, found, imported, reads

HISTORY = [CHAT.format("What is 1 + 1?\nQuick!", " 2, of course."), CHAT.format("Thanks", "…")]


def told(read: Found) -> list[tuple[Role, Any]]:
    return [(message.role, message.content) for message in read.messages]


async def test_a_folder_of_histories() -> None:
    first, second = await reads({"room-1": HISTORY, "room-2": [CHAT.format("a", "b")]})
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    assert told(first) == [
        (Role.USER, "What is 1 + 1?\nQuick!"),
        (Role.ASSISTANT, "2, of course."),
        (Role.USER, "Thanks"),
        (Role.ASSISTANT, "…"),
    ]
    assert first.conversation.id == "room-1"
    assert first.conversation.title == "What is 1 + 1? Quick!"
    assert first.conversation.created_at == NOW
    assert first.conversation.head_id == first.messages[-1].id
    assert [one.parent_id for one in first.messages] == [
        None,
        *(one.id for one in first.messages[:-1]),
    ]
    assert second.index == 1
    assert not first.dropped


async def test_questions_and_answers_apart() -> None:
    read = await found({"room": ["User: a\n\n\n", "ChatGPT: b<|im_end|>\n", "User: c"]})
    assert told(read) == [(Role.USER, "a"), (Role.ASSISTANT, "b"), (Role.USER, "c")]


async def test_a_history_without_an_id() -> None:
    read = await found(HISTORY)
    assert len(read.messages) == 4
    assert read.conversation.id == (await found(HISTORY)).conversation.id
    assert read.conversation.id.startswith("conv_")
    assert read.conversation.id != (await found(HISTORY[:1])).conversation.id


@pytest.mark.parametrize(
    ("chats", "texts"),
    [
        (["User: a\n\n\nb\n\n\nChatGPT: c\n\n\nChatGPT: d<|im_end|>\n"], ["a\n\n\nb", None]),
        (["User: a\n\n\nChatGPT: <|im_end|>\n"], ["a"]),
        (["User: x", "no chat at all"], ["x", "no chat at all"]),
        (["User: x", ""], ["x"]),
    ],
)
async def test_odd_chats_lose_nothing(chats: list[str], texts: list[str | None]) -> None:
    read = await found({"room": chats})
    kept = [text if text is not None else "c\n\n\nChatGPT: d" for text in texts]
    assert [one.content for one in read.messages] == kept


async def test_what_is_no_chat_is_counted() -> None:
    read = await found({"room": ["User: a", 7, None]})
    assert read.dropped == {"chat": 2}


async def test_a_conversation_that_is_no_list_fails_alone() -> None:
    first, second = await reads({"a": ["User: a"], "b": {"c": 1}})
    assert isinstance(first, Found)
    assert (second.index, second.id) == (1, "b")  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["new", "a b", "群聊", ""])
async def test_an_id_that_cannot_be_kept_gives_way(key: str) -> None:
    read = await found({key: HISTORY})
    assert read.conversation.id.startswith("conv_")
    assert read.conversation.id == (await found({key: HISTORY[:1]})).conversation.id
    assert read.dropped == {"conversation_id": 1}


async def test_a_history_that_grew_is_added_to(store: SQLiteStore) -> None:
    assert (await imported(store, {"room": HISTORY[:1]})).imported == 1
    assert (await imported(store, {"room": HISTORY})).imported == 1
    assert (await imported(store, {"room": HISTORY})).unchanged == 1
    there = await store.conversation("anna", "room")
    assert there.message_count == 4

"""Edits and regenerations make branches; each reads back exactly, and deleting leaves nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from server.app.core import core_of
from server.core.conversations import ROOT, Ask, Conversations, Defaults, Regenerate
from server.core.errors import InvalidRequestError
from storage.model import Status, Turn
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.histories import OWNER
from tests.support.fakes import Parrot

TABLES = (
    "conversations",
    "messages",
    "turns",
    "checkpoints",
    "claims",
    "message_pieces_docsize",
    "message_words_docsize",
    "title_pieces_docsize",
    "title_words_docsize",
)


@pytest.fixture
async def core(store: SQLiteStore) -> Conversations:
    return core_of(store, Parrot(), Defaults("gpt-4o"))


async def ended(core: Conversations, turn: Turn) -> Turn:
    async for _ in core.follow(OWNER, turn.id):
        pass
    return await core.turn(OWNER, turn.id)


async def asked(core: Conversations, words: str, parent: str | None = None) -> Turn:
    return await ended(core, await core.ask(OWNER, "c", Ask(words, parent_id=parent)))


async def texts(core: Conversations, leaf: str | None = None) -> list[str]:
    page = await core.messages(OWNER, "c", leaf=leaf)
    return [str(message.content).strip() for message in page.items]


async def test_ten_edits_and_ten_regenerations_read_back(core: Conversations) -> None:
    first = await asked(core, "one")
    branches: dict[str, list[str]] = {}
    for number in range(10):
        turn = await asked(core, f"edit {number}", first.answer_id)
        assert turn.answer_id is not None
        branches[turn.answer_id] = ["one", "one", f"edit {number}", f"edit {number}"]
    last = await asked(core, "last", first.answer_id)
    for _ in range(10):
        turn = await ended(core, await core.regenerate(OWNER, "c", Regenerate(last.answer_id)))
        assert turn.question_id == last.question_id
        assert turn.answer_id is not None
        branches[turn.answer_id] = ["one", "one", "last", "last"]
    assert len(branches) == 20
    for leaf, story in branches.items():
        assert await texts(core, leaf) == story


async def test_siblings_are_told(core: Conversations) -> None:
    first = await asked(core, "one")
    again = await ended(core, await core.regenerate(OWNER, "c", Regenerate()))
    question, answer = (await core.messages(OWNER, "c")).items
    assert question.siblings == (question.id,)
    assert answer.id == again.answer_id
    assert answer.siblings == (first.answer_id, again.answer_id)


async def test_the_first_message_can_be_edited(core: Conversations) -> None:
    first = await asked(core, "one")
    edited = await asked(core, "another one", ROOT)
    assert await texts(core) == ["another one", "another one"]
    question = (await core.messages(OWNER, "c")).items[0]
    assert question.parent_id is None
    assert question.siblings == (first.question_id, edited.question_id)


async def test_the_head_moves_by_hand(core: Conversations) -> None:
    first = await asked(core, "one")
    await asked(core, "two")
    await core.update(OWNER, "c", {"head_id": first.answer_id})
    assert await texts(core) == ["one", "one"]
    third = await asked(core, "three")
    assert third.parent_id == first.answer_id
    with pytest.raises(NotFoundError):
        await core.update(OWNER, "c", {"head_id": "msg_none"})


async def test_nothing_can_be_regenerated_where_nothing_was_asked(core: Conversations) -> None:
    await core.create(OWNER, id="c")
    with pytest.raises(InvalidRequestError):
        await core.regenerate(OWNER, "c", Regenerate())


async def test_deleting_leaves_no_orphan(core: Conversations, tmp_path: Path) -> None:
    first = await asked(core, "one")
    for number in range(3):
        await asked(core, f"edit {number}", first.answer_id)
        await ended(core, await core.regenerate(OWNER, "c", Regenerate()))
    await core.ask(OWNER, "other", Ask("stays"))
    await core.delete(OWNER, "c")
    await core.delete(OWNER, "other")
    database = sqlite3.connect(tmp_path / "trialogue.db")
    left = {
        table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
    }
    assert left == dict.fromkeys(TABLES, 0)
    database.close()


async def test_a_deleted_id_can_be_used_again(core: Conversations) -> None:
    await asked(core, "one")
    await core.delete(OWNER, "c")
    with pytest.raises(NotFoundError):
        await core.get(OWNER, "c")
    turn = await asked(core, "two")
    assert turn.status is Status.COMPLETED
    assert await texts(core) == ["two", "two"]

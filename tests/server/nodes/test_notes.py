"""What one node tells the others of what happened, and what they make of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.live.news import Changed, Deleted, Note, Over
from server.nodes.notes import Notes
from storage.model import Failure, Status, Turn
from storage.postgres.nodes.bell import MOST_BYTES
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, conversation, turn


def failed(message: str) -> Turn:
    failure = Failure("upstream_failed", message, 502)
    return replace(turn("1"), status=Status.FAILED, answer="", error=failure, ended_at=2)


async def heard(notes: Notes, *told: Any) -> Note:
    """Return the note that is made of what another node told."""
    word, name, *more = told
    made: asyncio.Queue[Note] = asyncio.Queue()
    notes.heard(word, name, ADA, made.put_nowait, more[0] if more else None)
    async with asyncio.timeout(10):  # for one that is never made
        return await made.get()


def later(written: str) -> str:
    """Return what a node of a later release would have written."""
    return json.dumps(json.loads(written) | {"new": True})


@pytest.fixture
async def notes(tmp_path: Path) -> AsyncIterator[Notes]:
    async with SQLiteStore(tmp_path / "trialogue.db") as store:
        yield Notes(store)


async def test_a_turn_that_is_gone_is_told_whole(notes: Notes) -> None:
    gone = failed("away")
    told = notes.told(Over(gone))
    assert told is not None
    assert await heard(notes, *told) == Over(gone)


async def test_what_a_later_release_tells_more_of_is_passed_over(notes: Notes) -> None:
    gone, there = failed("away"), conversation(metadata={"a": "b"})
    over, changed = notes.told(Over(gone)), notes.told(Changed(there.id, there))
    deleted = notes.told(Deleted(there))
    assert over is not None
    assert changed is not None
    assert deleted is not None
    assert await heard(notes, *over[:2], later(over[2])) == Over(gone)
    assert await heard(notes, *changed[:2], later(changed[2])) == Changed(there.id, there)
    assert await heard(notes, deleted[0], later(deleted[1])) == Deleted(there)


@pytest.mark.parametrize("letter", ['"', "\\", "\n", "本", "a"])
async def test_all_that_is_told_has_room_in_a_notification(notes: Notes, letter: str) -> None:
    for length in range(100, 3_000, 10):
        there = conversation(system_prompt=letter * length)
        for what in (Over(failed(letter * length)), Deleted(there), Changed(there.id, there)):
            told = notes.told(what)
            assert told is not None
            assert len(json.dumps([*told, ADA])) + 2 <= MOST_BYTES, (letter, length)

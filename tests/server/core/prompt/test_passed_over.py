"""Questions that failed are not sent again, and cost little to pass over, however many they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.app.core import core_of
from server.core.conversations import Ask
from server.core.prompt.compose import PASSED_OVER, STEP
from server.core.turns.plan import Defaults
from storage.model import Failure, Role, Status
from tests.server.core.counting_store import CountingStore
from tests.server.core.following import asked
from tests.storage.nouns import ADA, conversation, message, turn
from tests.support.fakes import MODEL, Parrot


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    opened = CountingStore(tmp_path / "failed.db")
    async with opened:
        yield opened


async def kept(store: CountingStore, failures: int) -> None:
    """Keep an answered question, and under it the same failure again and again."""
    messages = [message("q", None, Role.USER, "Hello"), message("a", "q", Role.ASSISTANT, "Hi")]
    turns = []
    for number in range(failures):
        name = f"{number:05}"
        parent = messages[-1].id
        messages.append(message(f"q_{name}", parent, content="Bad", turn_id=f"turn_{name}"))
        failure = Failure("upstream_failed", "No.")
        begun = replace(turn(name), parent_id=parent)
        turns.append(replace(begun, status=Status.FAILED, error=failure, ended_at=9))
    there = conversation(head_id=messages[-1].id, message_count=len(messages))
    await store.put(ADA, there, messages, turns)


@pytest.mark.parametrize("failures", [0, 1, STEP - 2, STEP, 2 * STEP + 1])
async def test_what_stands_above_them_is_sent_and_they_are_not(
    store: CountingStore, parrot: Parrot, failures: int
) -> None:
    await kept(store, failures)
    async with core_of(store, parrot, Defaults(MODEL)) as conversations:
        done = await asked(conversations, Ask("Again"))
    assert [one.content for one in parrot.prompts[0].messages] == ["Hello", "Hi", "Again"]
    assert done.context.messages_included == 3


async def test_a_page_of_them_takes_two_reads_and_there_is_an_end(
    store: CountingStore, parrot: Parrot
) -> None:
    await kept(store, 2 * PASSED_OVER)
    async with core_of(store, parrot, Defaults(MODEL)) as conversations:
        store.reads = 0
        await conversations.preview(ADA, "c", Ask("Again"))
        assert store.read <= PASSED_OVER + 3 * STEP
        assert store.reads <= 2 * PASSED_OVER // STEP + 5
        await asked(conversations, Ask("Again"))
    assert [one.content for one in parrot.prompts[0].messages] == ["Again"]

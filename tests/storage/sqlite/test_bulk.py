"""Tests of what is imported and deleted in steps: who sees it meanwhile, and what is left of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.model import Message, Query, Status, Turn
from storage.port import (
    CLAIM_LIFETIME,
    FORGOTTEN_AT_ONCE,
    AlreadyExistsError,
    NotFoundError,
    Piece,
    UnavailableError,
)
from storage.sqlite.conversations import STEP_CHARACTERS, STEP_ROWS
from storage.sqlite.store import PIECES_AT_ONCE, SQLiteStore
from tests.storage.nouns import (
    ADA,
    begin,
    claim,
    conversation,
    exchange,
    line,
    message,
    outcome,
    turn,
)
from tests.storage.stepping import Stepping

MANY = 3 * STEP_ROWS + 7
#: What no table may hold when everything is deleted; the others are books of SQLite's own.
TABLES = ("conversations", "messages", "turns", "checkpoints", "claims")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Stepping]:
    async with Stepping(tmp_path / "trialogue.db") as opened:
        yield opened


def answered(messages: Sequence[Message]) -> list[Turn]:
    """Return a turn for each pair of a question and an answer."""
    pairs = zip(messages[::2], messages[1::2], strict=False)
    return [
        replace(
            turn(question.id, question.conversation_id, question.id),
            status=Status.COMPLETED,
            parent_id=question.parent_id,
            answer_id=answer.id,
            answer="elephant",
            ended_at=9,
        )
        for question, answer in pairs
    ]


LINE = line(MANY)
WHOLE = conversation(title="Elephants", head_id=LINE[-1].id)
TURNS = answered(LINE)


async def assert_whole(store: SQLiteStore, counted: int = MANY) -> None:
    assert (await store.conversation(ADA, "c")).message_count == counted
    found = await store.every_message(ADA, "c", after=None, limit=10 * MANY)
    assert {one.id for one in LINE} <= {one.id for one in found}
    begun = await store.every_turn(ADA, "c", after=None, limit=10 * MANY)
    assert {one.id for one in TURNS} <= {one.id for one in begun}


async def rows(store: SQLiteStore) -> dict[str, int]:
    """Count the rows of all tables that have any, once what is hidden was purged."""
    await store._bulk._purged()

    def count(connection: sqlite3.Connection) -> dict[str, int]:
        counted = {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in TABLES}
        return {table: number for table, number in counted.items() if number}

    return await store._read(count)


async def until_purged(store: SQLiteStore) -> None:
    """Wait for what is purged though nobody waits for it."""
    while await rows(store):
        await asyncio.sleep(0)


def transactions(statements: Sequence[str], beginning: str) -> list[int]:
    """Count the statements that begin so, by transaction; those without one are left out."""
    counted, number = Counter[int](), 0
    for statement in statements:
        number += statement.startswith("BEGIN")
        counted[number] += " ".join(statement.split()).startswith(beginning)
    return [count for count in counted.values() if count]


SEES: dict[str, Callable[[SQLiteStore], Any]] = {
    "conversation": lambda s: s.conversation(ADA, "c"),
    "message": lambda s: s.message(ADA, "c", "c0"),
    "branch": lambda s: s.branch(ADA, "c", "c5", limit=9),
    "turn": lambda s: s.turn(ADA, TURNS[0].id),
    "last turn": lambda s: s.last_turn(ADA, "c"),
    "end": lambda s: s.end(ADA, TURNS[0].id, outcome("x")),
    "delete": lambda s: s.delete(ADA, "c"),
    "by the name that it has meanwhile": lambda s: s.message(ADA, "1", "c0"),
}


async def assert_nothing_is_seen(store: SQLiteStore) -> None:
    for see in SEES.values():
        with pytest.raises(NotFoundError):
            await see(store)
    assert (await store.conversations(ADA, limit=9)).items == ()
    assert (await store.conversations(ADA, limit=9, q="Elephants")).items == ()
    assert (await store.search(ADA, Query("elephant"), limit=9)).items == ()
    assert await store.running() == []


# Imports


async def test_an_import_is_seen_whole_or_not_at_all(store: Stepping) -> None:
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    steps = 0
    while True:
        await store.step()
        steps += 1
        await assert_nothing_is_seen(store)
        (kept,) = await store._read(lambda c: c.execute("SELECT count(*) FROM turns").fetchone())
        if kept == len(TURNS):
            break
    assert steps == 1 + 4 + 2  # the conversation, its messages, its turns; the last one shows it
    store.go()
    assert await putting
    await assert_whole(store)
    assert (await store.conversation(ADA, "c")).head_id == LINE[-1].id
    assert len((await store.search(ADA, Query("elephant"), limit=9)).items) == 9


async def test_no_transaction_of_an_import_or_deletion_is_long(store: Stepping) -> None:
    long = "x" * (STEP_CHARACTERS // 4)
    said = [*LINE, *line(9, "long", long)]
    said = [replace(one, conversation_id="c") for one in said]
    await store.put(ADA, WHOLE, said, TURNS)
    for table, count in (("messages", len(said)), ("turns", len(TURNS))):
        kept = transactions(store.statements, f"INSERT INTO {table}")
        assert (sum(kept), max(kept)) == (count, STEP_ROWS)
    longest = max(sum(map(len, each)) for each in batches(store.statements, long))
    assert longest <= STEP_CHARACTERS + len(long)
    store.statements.clear()
    await store.delete(ADA, "c")
    for table, count in (("messages", len(said)), ("turns", len(TURNS))):
        deleted = transactions(store.statements, f"DELETE FROM {table}")
        assert (sum(deleted), max(deleted)) == (count, STEP_ROWS)
    assert max(transactions(store.statements, "INSERT INTO message_pieces")) <= STEP_ROWS
    assert await rows(store) == {}


def batches(statements: Sequence[str], text: str) -> list[list[str]]:
    """Return how often a text is kept as a message, by transaction."""
    found: list[list[str]] = [[]]
    for statement in statements:
        if statement.startswith("BEGIN"):
            found.append([])
        if " ".join(statement.split()).startswith("INSERT INTO messages") and text in statement:
            found[-1].append(text)
    return found


async def test_a_deletion_of_long_messages_is_bounded_by_their_characters(store: Stepping) -> None:
    await store.put(ADA, conversation(), line(9, content="x" * (STEP_CHARACTERS // 2)), [])
    store.statements.clear()
    await store.delete(ADA, "c")
    assert transactions(store.statements, "DELETE FROM messages") == [2, 2, 2, 2, 1]


async def test_a_message_larger_than_a_step_is_kept(store: Stepping) -> None:
    huge = line(3, content="y" * (3 * STEP_CHARACTERS))
    assert await store.put(ADA, conversation(), huge, [])
    assert (await store.message(ADA, "c", "c2")).content == huge[2].content


async def test_a_small_conversation_is_one_transaction(store: Stepping) -> None:
    await store.put(ADA, replace(WHOLE, head_id="c8"), LINE[:9], TURNS[:4])
    assert store.statements.count("COMMIT") == 1


async def test_others_write_between_two_steps(store: Stepping) -> None:
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    asked = 0
    while not putting.done():
        await begin(store, str(asked), into=f"other{asked}")
        asked += 1
    assert await putting
    assert asked >= 4  # after no more than one step each


async def test_the_same_one_imported_twice_at_once_is_kept_once(store: Stepping) -> None:
    both = await asyncio.gather(*(store.put(ADA, WHOLE, LINE, TURNS) for _ in range(2)))
    assert sorted(both) == [False, True]
    await assert_whole(store)
    counts = await rows(store)
    assert counts == {"conversations": 1, "messages": MANY, "turns": len(TURNS)}


async def test_one_that_is_asked_meanwhile_gets_what_was_imported(store: Stepping) -> None:
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    for _ in range(3):
        await store.step()
    await exchange(store)
    store.go()
    assert await putting
    await assert_whole(store, MANY + 2)
    kept = await store.conversation(ADA, "c")
    assert (kept.title, kept.head_id) == ("", "a_1")
    assert (await rows(store))["conversations"] == 1


async def test_a_deletion_meanwhile_finds_nothing_and_stops_nothing(store: Stepping) -> None:
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    await store.step()
    with pytest.raises(NotFoundError):
        await store.delete(ADA, "c")
    store.go()
    assert await putting
    await assert_whole(store)


async def test_what_is_added_to_one_that_is_deleted_meanwhile_goes_with_it(
    store: Stepping,
) -> None:
    await store.put(ADA, replace(WHOLE, head_id="c8"), LINE[:9], [])
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    await store.step()
    deleting = asyncio.create_task(store.delete(ADA, "c"))
    while (await store.conversations(ADA, limit=1)).items:
        await asyncio.sleep(0)
    store.go()
    await deleting
    with pytest.raises(NotFoundError, match="deleted meanwhile"):
        await putting
    assert await rows(store) == {}


async def test_what_is_added_in_steps_is_sound_after_each(store: Stepping) -> None:
    await store.put(ADA, replace(WHOLE, head_id="c8"), LINE[:9], [])
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    for _ in range(4):
        await store.step()
        counted = (await store.conversation(ADA, "c")).message_count
        found = await store.every_message(ADA, "c", after=None, limit=10 * MANY)
        assert [one.id for one in found] == [one.id for one in LINE[:counted]]
    store.go()
    assert await putting
    await assert_whole(store)


@pytest.mark.parametrize("fresh", [True, False])
async def test_an_id_of_another_conversation_keeps_nothing_of_a_large_one(
    store: Stepping, fresh: bool
) -> None:
    await store.put(ADA, conversation("other"), [replace(LINE[-1], parent_id=None)], [])
    if not fresh:
        await store.put(ADA, replace(WHOLE, head_id="c8"), LINE[:9], [])
    before = await rows(store)
    with pytest.raises(AlreadyExistsError):
        await store.put(ADA, WHOLE, LINE, TURNS)
    assert await rows(store) == before


async def test_an_id_that_is_taken_meanwhile_takes_all_back(store: Stepping) -> None:
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    await store.step()
    last = replace(LINE[-1], parent_id=None, conversation_id="other")
    await store.summarise(ADA, replace(last, conversation_id=await made(store, "other")))
    store.go()
    with pytest.raises(AlreadyExistsError):
        await putting
    assert await rows(store) == {"conversations": 1, "messages": 1}


async def made(store: SQLiteStore, conversation_id: str) -> str:
    await store.create(ADA, conversation(conversation_id))
    return conversation_id


async def test_a_missing_parent_keeps_nothing_of_a_large_one(store: Stepping) -> None:
    with pytest.raises(NotFoundError):
        await store.put(ADA, WHOLE, [*LINE, message("x", "nowhere")], TURNS)
    assert await rows(store) == {}
    assert await store.put(ADA, WHOLE, LINE, TURNS)


async def test_a_running_import_that_is_cancelled_leaves_nothing(store: Stepping) -> None:
    store.halt()
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    for _ in range(3):
        await store.step()
    putting.cancel()
    with suppress(asyncio.CancelledError):
        await putting
    store.go()
    assert await store.put(ADA, WHOLE, LINE, TURNS)  # it waits for its ids
    await assert_whole(store)
    assert (await rows(store))["messages"] == MANY


async def test_an_import_that_is_cancelled_in_its_first_step_leaves_nothing(
    store: Stepping,
) -> None:
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    while not store.waiting:
        await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait([putting])
    await store._writer.step(lambda _: None)  # which comes behind it
    await until_purged(store)


async def test_an_import_that_is_cancelled_in_its_last_step_stays(store: Stepping) -> None:
    putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
    while not any("SET owner = 'ada'" in one for one in store.statements):
        await asyncio.sleep(0)
    putting.cancel()
    with suppress(asyncio.CancelledError):
        await putting
    assert (await rows(store))["messages"] == MANY
    await assert_whole(store)


async def test_a_full_disk_ends_an_import_and_it_can_be_run_again(store: Stepping) -> None:
    def limit(pages: int) -> Callable[[sqlite3.Connection], Any]:
        return lambda c: c.execute(f"PRAGMA max_page_count = {pages}")

    large = line(MANY, content="elephant " * 60)
    (pages,) = await store._read(lambda c: c.execute("PRAGMA page_count").fetchone())
    await store._writer.write(limit(pages + 30))
    with pytest.raises(UnavailableError, match="full"):
        await store.put(ADA, WHOLE, large, TURNS)
    assert transactions(store.statements, "INSERT INTO messages")
    await assert_nothing_is_seen(store)
    await store._writer.write(limit(1_000_000))
    assert await store.put(ADA, WHOLE, large, TURNS)
    await assert_whole(store)


# Deletions


async def test_what_is_being_deleted_is_gone_at_once(store: Stepping) -> None:
    await store.put(ADA, WHOLE, LINE, TURNS)
    await begin(store, parent=LINE[-1].id, claim=claim())
    await store.end(ADA, "turn_1", outcome("1"))
    store.halt()
    deleting = asyncio.create_task(store.delete(ADA, "c"))
    await store.step()
    await assert_nothing_is_seen(store)
    assert await store.claimed(ADA, claim()) is None
    await begin(store, "2", into="new", claim=claim())
    assert await store.claimed(ADA, claim()) == "turn_2"
    store.go()
    await deleting
    counts = {"conversations": 1, "messages": 1, "turns": 1, "claims": 1}
    assert await rows(store) == counts
    assert await store.claimed(ADA, claim()) == "turn_2"


async def test_a_deletion_goes_on_without_its_caller(store: Stepping) -> None:
    await store.put(ADA, WHOLE, LINE, TURNS)
    store.halt()
    deleting = asyncio.create_task(store.delete(ADA, "c"))
    await store.step()
    deleting.cancel()
    store.go()
    assert await rows(store) == {}


async def test_a_deletion_whose_caller_leaves_while_it_is_hidden_is_purged(store: Stepping) -> None:
    await store.put(ADA, WHOLE, LINE, TURNS)
    deleting = asyncio.create_task(store.delete(ADA, "c"))
    while not store.waiting:
        await asyncio.sleep(0)
    deleting.cancel()
    await asyncio.wait([deleting])
    await until_purged(store)


async def test_a_deletion_is_true_though_its_purge_fails(store: Stepping) -> None:
    await store.put(ADA, WHOLE, LINE, TURNS)
    store.halt()
    deleting = asyncio.create_task(store.delete(ADA, "c"))
    await store.step()
    await store._writer._connection.run(lambda c: c.execute("PRAGMA query_only = ON"))
    store.go()
    await deleting
    await store._writer._connection.run(lambda c: c.execute("PRAGMA query_only = OFF"))
    await assert_nothing_is_seen(store)
    assert await rows(store) == {}


async def test_a_start_serves_before_it_has_purged(tmp_path: Path) -> None:
    path = tmp_path / "left.db"
    async with Stepping(path) as store:
        store.halt()
        putting = asyncio.create_task(store.put(ADA, WHOLE, LINE, TURNS))
        for _ in range(6):
            await store.step()
        left = await store._read(lambda c: c.execute("SELECT count(*) FROM messages").fetchone())
        assert left == (MANY,)
        putting.cancel()  # and nothing purges it: the store is halted
        await asyncio.wait([putting])
    async with SQLiteStore(path) as again:
        await assert_nothing_is_seen(again)
        assert await again.put(ADA, WHOLE, LINE, TURNS)
        await assert_whole(again)
        assert (await rows(again))["messages"] == MANY


async def test_many_answers_are_checkpointed_some_at_a_time(store: Stepping) -> None:
    names = [str(number) for number in range(2 * PIECES_AT_ONCE + 5)]
    await asyncio.gather(*(begin(store, name, into=name) for name in names))
    store.statements.clear()
    await store.checkpoint([Piece(ADA, f"turn_{name}", 0, f"half of {name}") for name in names])
    kept = transactions(store.statements, "INSERT OR REPLACE INTO checkpoints")
    assert kept == [PIECES_AT_ONCE, PIECES_AT_ONCE, 5]
    assert (await store.turn(ADA, f"turn_{names[-1]}")).answer == f"half of {names[-1]}"


async def test_keys_that_outlived_their_day_go_a_few_at_a_time(store: Stepping) -> None:
    old = claim("old")
    for number in range(3 * FORGOTTEN_AT_ONCE):
        key = "old" if number == 0 else f"old{number}"
        await begin(store, str(number), into=f"c{number}", claim=claim(key))
    later = replace(old, now=old.now + 2 * CLAIM_LIFETIME)
    for number in range(1, 4):
        await begin(
            store, f"new{number}", into=f"n{number}", claim=replace(later, key=f"n{number}")
        )
        left = 3 * FORGOTTEN_AT_ONCE - number * FORGOTTEN_AT_ONCE + number
        assert (await rows(store))["claims"] == left


async def test_a_key_that_outlived_its_day_can_be_used_again(store: Stepping) -> None:
    for number in range(3 * FORGOTTEN_AT_ONCE):
        await begin(store, str(number), into=f"c{number}", claim=claim(f"key{number:03}"))
    used = claim(f"key{3 * FORGOTTEN_AT_ONCE - 1:03}", b"another")
    later = replace(used, now=used.now + 2 * CLAIM_LIFETIME)
    await begin(store, "again", into="again", claim=later)
    assert await store.claimed(ADA, later) == "turn_again"

"""Tests of what servers on one database share: who writes which turn, keys, rates, a bell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import asyncpg
import pytest

from storage.model import ApiKey, Status
from storage.parts import Kind, Mark, Part
from storage.port import BusyError, MovedError, NotFoundError, Piece, UnavailableError
from storage.postgres.database import Database, compiled
from storage.postgres.nodes.bell import GATHERED, Bell
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, begin, conversation, message, outcome, turn
from tests.support.postgres import NODES, emptied, fetched


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[list[PostgresStore]]:
    """Two servers on one database, each of which is one of its nodes."""
    await emptied(postgres_url)
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(PostgresStore(postgres_url)) for _ in range(2)]
        for number, one in enumerate(made):
            await one.members.join(f"node{number}", f"host:{number}")
        yield made


async def test_a_beat_tells_who_is_there_and_one_that_was_buried_that_it_is_not(
    stores: list[PostgresStore],
) -> None:
    one, other = (store.members for store in stores)
    assert await one.bury("node1", 7) is False
    await other.beat("elsewhere:1", {ADA: 2})
    found = await one.beat("host:0", {})
    assert found is not None
    assert {name: (at.address, at.beat, at.crowd) for name, at in found.items()} == {
        "node0": ("host:0", 0, {}),
        "node1": ("elsewhere:1", 1, {ADA: 2}),
    }
    assert await one.bury("node1", 0) is False
    assert await one.bury("node1", 1) is True
    assert await other.beat("elsewhere:1", {ADA: 2}) is None


async def test_turns_are_orphans_where_their_node_is_none(stores: list[PostgresStore]) -> None:
    one, other = stores
    await begin(one)
    assert await one.members.writer(ADA, "turn_1") == "node0"
    assert await other.members.running_elsewhere(ADA) == ["turn_1"]
    assert await one.members.running_elsewhere(ADA) == []
    question, new = message("q_u", conversation_id="u"), turn("u", "u")
    await one.begin(ADA, new, question, conversation=conversation("u", unlisted=True))
    assert await other.members.running_elsewhere(ADA) == ["turn_1"], "it is in no list"
    await one.end(ADA, new.id, outcome("u"))
    assert await other.orphans() == []
    await other.members.bury("node0", 0)
    assert [found.id for _, found in await other.orphans()] == ["turn_1"]


async def test_who_was_buried_writes_nothing_more(stores: list[PostgresStore]) -> None:
    one, other = stores
    await begin(one)
    await one.checkpoint([Piece(ADA, "turn_1", 0, "Kept. ")])
    await other.checkpoint([Piece(ADA, "turn_1", 6, "Another's. ")])
    await other.members.bury("node0", 0)
    with pytest.raises(UnavailableError, match="taken for dead"):
        await begin(one, "2", into="d")
    with pytest.raises(NotFoundError):
        await one.conversation(ADA, "d")
    interrupted = outcome("1", "Kept. ", status=Status.INTERRUPTED)
    ended = await other.end(ADA, "turn_1", interrupted)
    await one.checkpoint([Piece(ADA, "turn_1", 6, "Too late. ")])
    assert await one.end(ADA, "turn_1", outcome("late", "Kept. Too late.")) == ended
    assert (await other.turn(ADA, "turn_1")).answer == "Kept. "


async def test_under_its_new_name_it_writes_none_of_its_old_turns(
    stores: list[PostgresStore],
) -> None:
    one, _ = stores
    await begin(one)
    await one.members.join("node0-again", "host:0")
    await one.checkpoint([Piece(ADA, "turn_1", 0, "Of before")])
    assert (await one.turn(ADA, "turn_1")).answer == ""
    await begin(one, "2", into="d")
    assert await one.members.writer(ADA, "turn_2") == "node0-again"


async def test_the_longer_of_what_was_checkpointed_and_heard_is_the_answer(
    stores: list[PostgresStore],
) -> None:
    one, other = stores
    await begin(one)
    thought = Mark(0, Part(Kind.REASONING))
    await one.checkpoint([Piece(ADA, "turn_1", 0, "\ufffcHm", (thought,))])
    await other.members.rescue(Piece(ADA, "turn_1", 0, "\ufffcHm. Yes", (thought,)))
    await other.members.rescue(Piece(ADA, "turn_1", 0, "\ufffcHm.", (thought,)))
    said = (await one.turn(ADA, "turn_1")).parts
    assert said == [{"type": "reasoning", "text": "Hm. Yes"}]
    await one.checkpoint([Piece(ADA, "turn_1", 3, ". Yes indeed")])
    said = (await one.turn(ADA, "turn_1")).parts
    assert said == [{"type": "reasoning", "text": "Hm. Yes indeed"}]
    await one.end(ADA, "turn_1", outcome("1", "Over"))
    await other.members.rescue(Piece(ADA, "turn_1", 0, "Too late, and longer than that"))
    assert (await one.turn(ADA, "turn_1")).answer == "Over"


async def test_who_writes_a_turn_reads_that_it_is_to_stop(stores: list[PostgresStore]) -> None:
    one, other = stores
    await begin(one)
    assert await one.members.stops() == []
    await other.members.ask_to_stop(ADA, "turn_1")
    assert await other.members.stops() == []
    assert await one.members.stops() == [(ADA, "turn_1")]


async def test_of_many_that_make_one_conversation_the_others_plan_again(
    stores: list[PostgresStore],
) -> None:
    for number in range(10):
        into = f"c{number}"

        async def ask(name: str, into: str = into) -> None:
            store = stores[int(name[-1]) % 2]
            question = message(f"q_{name}", conversation_id=into, turn_id=f"turn_{name}")
            new = conversation(into)
            await store.begin(ADA, turn(name, into), question, conversation=new, head=None)
            await store.end(ADA, f"turn_{name}", outcome(name))

        asked = (ask(f"{number}_{n}") for n in range(NODES))
        found: Sequence[Any] = await asyncio.gather(*asked, return_exceptions=True)
        assert [one for one in found if not isinstance(one, BusyError | MovedError)] == [None]


def key(number: int) -> ApiKey:
    return ApiKey(f"key_{number}", ADA, bytes([number]) * 32, 1, None if number else 5)


async def test_keys_are_read_as_they_were_added_and_the_list_is_the_same_while_none_is(
    stores: list[PostgresStore],
) -> None:
    one, other = (store.keys for store in stores)
    assert await one.add(key(0)) is True
    assert await one.add(key(1)) is True
    assert await other.add(key(1)) is False
    assert list(other.keys()) == [key(0), key(1)]
    before = other.keys()
    await other.refresh()
    assert other.keys() is before
    assert (await one.revoke("key_1", 7)).revoked_at == 7
    assert (await one.revoke("key_1", 8)).revoked_at == 7
    await other.refresh()
    assert list(other.keys()) == [key(0), replace(key(1), revoked_at=7)]
    with pytest.raises(NotFoundError):
        await other.revoke("key_2", 7)


async def test_all_nodes_hear_that_a_key_was_revoked(stores: list[PostgresStore]) -> None:
    heard: asyncio.Queue[Sequence[Any]] = asyncio.Queue()
    hearing = asyncio.create_task(stores[0].bell.hear(heard.put_nowait, lambda: None))
    try:
        while not stores[0].bell.hears:
            await stores[0].bell.test()
            await asyncio.sleep(GATHERED)
        await stores[1].keys.add(key(0))
        assert await heard.get() == ["keys"]
        await stores[0].keys.revoke("key_0", 7)  # as by a command: whoever does it is no node
        assert await heard.get() == ["keys"]
    finally:
        hearing.cancel()


async def test_an_allowance_is_used_once_however_many_count(stores: list[PostgresStore]) -> None:
    counted = await asyncio.gather(
        *(stores[n % 2].rates.count(ADA, 60.0, 600.0) for n in range(30))
    )
    assert sorted(through for through, _ in counted) == [False] * 20 + [True] * 10
    assert all(0 < full <= 600.001 for _, full in counted)
    through, full = await stores[0].rates.count("bob", 60.0, 600.0)
    assert through
    assert full == pytest.approx(60, abs=1)


async def test_what_one_rings_the_other_hears_and_itself_not(stores: list[PostgresStore]) -> None:
    heard: asyncio.Queue[Sequence[Any]] = asyncio.Queue()
    own: list[Sequence[Any]] = []
    one, other = (store.bell for store in stores)
    missed = asyncio.Event()
    hearing = [
        asyncio.create_task(other.hear(heard.put_nowait, missed.set)),
        asyncio.create_task(one.hear(own.append, missed.set)),
    ]
    try:
        while not (one.hears and other.hears):
            await asyncio.gather(one.test(), other.test())
        long = "x" * 5_000
        for told in (["a", "b"], [long], [long], ["y" * 9_000], ["ü 😀 \x00"]):
            one.ring(*told)
        assert [await heard.get() for _ in range(4)] == [["a", "b"], [long], [long], ["ü 😀 \x00"]]
        assert own == []
    finally:
        for task in hearing:
            task.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)


async def test_who_hears_again_knows_that_it_may_have_missed_something(
    stores: list[PostgresStore], postgres_url: str
) -> None:
    bell, missed = stores[0].bell, asyncio.Semaphore(0)
    hearing = asyncio.create_task(bell.hear(lambda _: None, missed.release))

    try:
        while not bell.hears:
            await bell.test()
            await asyncio.sleep(0.01)
        await asyncio.gather(*(bell.test() for _ in range(3)))
        assert missed.locked()
        assert await fetched(postgres_url, _CUT) == [(True,)]
        while missed.locked():
            await bell.test()
            await asyncio.sleep(0.01)
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


#: Cuts those off who listen.
_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""


async def test_a_bell_that_was_refused_rings_again(stores: list[PostgresStore]) -> None:
    class Refusing:
        def __init__(self) -> None:
            self.refuses = True
            self.rung: list[str] = []

        async def rows(self, _: str, *, payload: str, **__: str) -> Sequence[Any]:
            if self.refuses:
                raise asyncpg.ProgramLimitExceededError("too many notifications")
            self.rung.append(payload)
            return []

    db = Refusing()
    bell = Bell(stores[0].address, cast("Database", db))
    bell.ring("lost")
    await asyncio.sleep(3 * GATHERED)
    with pytest.raises(UnavailableError):
        await bell.test()
    db.refuses = False
    bell.ring("rung")
    await asyncio.sleep(3 * GATHERED)
    assert ["rung" in payload for payload in db.rung] == [True]


async def test_what_every_node_looks_for_each_second_is_found_by_an_index(
    stores: list[PostgresStore], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stores[0]
    await begin(one)
    await fetched(postgres_url, _MANY)
    await fetched(postgres_url, "ANALYZE")
    seen: list[tuple[str, list[Any]]] = []
    ask = Database.rows

    async def rows(db: Database, sql: str, **values: Any) -> Sequence[Any]:
        positional, names = compiled(sql)
        seen.append((positional, [values[name] for name in names]))
        return await ask(db, sql, **values)

    monkeypatch.setattr(Database, "rows", rows)
    await one.members.stops()
    await one.members.running_elsewhere(ADA)
    await one.orphans()
    connection = await asyncpg.connect(postgres_url)
    try:
        for sql, values in seen:
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *values))
            assert "turns_running" in plan, plan
    finally:
        await connection.close()
    assert len(seen) == 3


_MANY = """
INSERT INTO turns (conversation, owner, id, status, model, question, context_window,
    context_budget, context_prompt_tokens, context_included, context_trimmed, created_at)
SELECT 1000000 + n, 'bob', 'old_' || n, 'completed', 'm', n, 1, 1, 1, 1, 0, 1
FROM generate_series(1, 20000) n RETURNING 1
"""

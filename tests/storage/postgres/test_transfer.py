"""Tests of imports and deletions in steps: unseen until they are whole, and never half gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from storage.model import Query
from storage.port import AlreadyExistsError, NotFoundError
from storage.postgres import conversations
from storage.postgres.address import Patience
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, BOB, conversation, line, message, whole

pytestmark = pytest.mark.parametrize("store", ["postgres_url"], indirect=True)
#: more than three steps
MANY = 3 * conversations.STEP_ROWS + 10


async def execute(url: str, sql: str) -> Sequence[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def until_empty(url: str) -> None:
    """Wait for what is purged though nobody waits for it."""
    while await execute(url, "SELECT FROM conversations"):
        await asyncio.sleep(0.01)
    assert await execute(url, "SELECT FROM messages") == []


async def test_a_large_import_is_seen_whole_or_not_at_all(store: PostgresStore) -> None:
    of, said = whole("big", MANY)
    putting = asyncio.create_task(store.put(ADA, of, said, []))
    counts: set[int] = set()
    while not putting.done():
        found = await store.conversations(ADA, limit=5)
        hits = await store.search(ADA, Query("elephant"), limit=5)
        counts |= {one.message_count for one in found.items} | {len(hits.items) and MANY}
        with pytest.raises(NotFoundError):
            await store.conversation(BOB, "big")
    assert await putting
    assert counts <= {0, MANY}
    kept = await store.conversation(ADA, "big")
    assert (kept.message_count, kept.head_id) == (MANY, said[-1].id)
    branch = await store.branch(ADA, "big", said[-1].id, limit=MANY + 1)
    assert [one.depth for one in branch] == list(range(MANY, 0, -1))


async def test_a_large_import_that_fails_leaves_nothing(
    store: PostgresStore, postgres_url: str
) -> None:
    of, said = whole("big", MANY)
    broken = [*said, message("x", "nowhere", conversation_id="big")]
    with pytest.raises(NotFoundError):
        await store.put(ADA, of, broken, [])
    assert await execute(postgres_url, "SELECT FROM conversations") == []
    assert await execute(postgres_url, "SELECT FROM messages") == []
    assert await store.put(ADA, of, said, [])


async def test_an_import_whose_caller_leaves_is_undone(
    store: PostgresStore, postgres_url: str
) -> None:
    of, said = whole("big", MANY)
    putting = asyncio.create_task(store.put(ADA, of, said, []))
    while not await execute(postgres_url, "SELECT FROM messages LIMIT 1"):
        await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    while store.waiting:
        await asyncio.sleep(0.01)
    assert await execute(postgres_url, "SELECT FROM messages") == []
    assert await store.put(ADA, of, said, [])


async def test_an_import_whose_caller_leaves_at_once_is_undone(
    store: PostgresStore, postgres_url: str
) -> None:
    putting = asyncio.create_task(store._imports._put_hidden(ADA, *whole("big", MANY), []))
    while not store.waiting:
        await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait([putting])
    while store.waiting:
        await asyncio.sleep(0)
    await until_empty(postgres_url)


async def test_a_deletion_whose_caller_leaves_while_it_is_hidden_is_purged(
    store: PostgresStore, postgres_url: str
) -> None:
    for _ in range(3):
        await store.put(ADA, *whole("big", 50), [])
        deleting = asyncio.create_task(store.delete(ADA, "big"))
        while not store.waiting:
            await asyncio.sleep(0)
        deleting.cancel()
        await asyncio.wait([deleting])
        await until_empty(postgres_url)


async def test_a_deletion_is_true_though_its_purge_fails(
    store: PostgresStore, postgres_url: str
) -> None:
    await store.put(ADA, *whole("big", 50), [])
    locker = await asyncpg.connect(postgres_url)
    async with PostgresStore(postgres_url, Patience(answer=0.2)) as hasty:
        async with locker.transaction():
            await locker.execute("SELECT FROM messages FOR UPDATE")
            await hasty.delete(ADA, "big")
        with pytest.raises(NotFoundError):
            await hasty.conversation(ADA, "big")
    await locker.close()
    async with PostgresStore(postgres_url):
        await until_empty(postgres_url)


async def test_two_nodes_import_the_same_at_once(store: PostgresStore, postgres_url: str) -> None:
    of, said = whole("big", MANY)
    async with PostgresStore(postgres_url) as other:
        put = await asyncio.gather(
            store.put(ADA, of, said, []), other.put(ADA, of, said, []), return_exceptions=True
        )
    for one in put:
        assert isinstance(one, bool | AlreadyExistsError)
    await store.put(ADA, of, said, [])
    assert (await store.conversation(ADA, "big")).message_count == MANY
    hidden = await execute(postgres_url, "SELECT FROM conversations WHERE owner = chr(26)")
    assert hidden == []


async def test_another_node_s_import_is_not_purged_by_who_starts(
    store: PostgresStore, postgres_url: str
) -> None:
    key = await store._imports._hidden(conversation("big"))
    async with PostgresStore(postgres_url):
        pass
    left = await execute(postgres_url, f"SELECT FROM conversations WHERE key = {key}")
    assert len(left) == 1


async def test_an_import_that_was_abandoned_is_purged_by_who_starts_or_needs_its_ids(
    store: PostgresStore, postgres_url: str
) -> None:
    for starts in (True, False):
        key = await store._imports._hidden(conversation("big"))
        await store._imports._add(ADA, key, None, line(5, "big_"), [], importing=True)
        with pytest.raises(AlreadyExistsError):
            await store.put(ADA, *whole("big", 5), [])
        await execute(
            postgres_url,
            f"UPDATE conversations SET importing = now() - 2 * {conversations.ABANDONED}",
        )
        if starts:
            async with PostgresStore(postgres_url):
                pass
            assert await execute(postgres_url, "SELECT FROM messages") == []
        assert await store.put(ADA, *whole("big", 5), [])
        await store.delete(ADA, "big")


async def test_one_that_was_purged_meanwhile_is_refused(store: PostgresStore) -> None:
    key = await store._imports._hidden(conversation("big"))
    await conversations.purge(store._db, key, own_import=True)
    with pytest.raises(NotFoundError):
        await store._imports._add(ADA, key, None, line(5, "big_"), [], importing=True)
    with pytest.raises(NotFoundError):
        await store._imports._show(ADA, key, "big")


async def test_a_deletion_that_was_cut_short_is_finished_by_who_starts(
    store: PostgresStore, postgres_url: str
) -> None:
    await store.put(ADA, *whole("big", 50), [])
    await conversations.hide(store._db, ADA, "big")
    with pytest.raises(NotFoundError):
        await store.conversation(ADA, "big")
    async with PostgresStore(postgres_url):
        pass
    assert await execute(postgres_url, "SELECT FROM messages") == []
    assert await execute(postgres_url, "SELECT FROM conversations") == []


async def test_a_shown_conversation_is_never_purged(store: PostgresStore) -> None:
    await store.put(ADA, *whole("big", 5), [])
    key = await conversations.conversation_key(store._db, ADA, "big")
    await conversations.purge(store._db, key, own_import=True)
    assert (await store.conversation(ADA, "big")).message_count == 5

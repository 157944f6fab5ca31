"""Tests of the steps of the schema: taken once by one of many, and not behind a later release."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from storage.model import Order
from storage.port import UnavailableError
from storage.postgres.address import address
from storage.postgres.migrations import SchemaTooNewError, UnfitError, migrate, steps
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, begin, conversation, exchange, outcome
from tests.support.postgres import NODES, PostgresServer, fetched


async def test_many_nodes_begin_on_an_empty_database_at_once(empty_postgres: str) -> None:
    stores = [PostgresStore(empty_postgres) for _ in range(NODES)]
    opened = await asyncio.gather(*(one.__aenter__() for one in stores), return_exceptions=True)
    try:
        assert opened == stores
        await exchange(stores[0])
        assert (await stores[-1].turn(ADA, "turn_1")).answer == "Hi"
    finally:
        await asyncio.gather(*(one.close() for one in stores))
    taken = await fetched(empty_postgres, "SELECT step FROM migrations ORDER BY step")
    assert taken == [(number,) for number in range(1, len(steps()) + 1)]


async def test_a_step_is_taken_whole_or_not_at_all(empty_postgres: str) -> None:
    connection = await asyncpg.connect(empty_postgres)
    try:
        await connection.execute("CREATE TABLE turns (anothers integer)")
        with pytest.raises(asyncpg.DuplicateTableError):
            await migrate(address(empty_postgres))
        assert await connection.fetchval("SELECT to_regclass('conversations')") is None
        await connection.execute("DROP TABLE turns")
    finally:
        await connection.close()
    await migrate(address(empty_postgres))


async def test_a_step_of_a_later_release_that_this_one_can_live_with_is_no_matter(
    empty_postgres: str,
) -> None:
    await migrate(address(empty_postgres))
    await fetched(empty_postgres, f"INSERT INTO migrations VALUES (99, {len(steps())}) RETURNING 1")
    async with PostgresStore(empty_postgres) as store:
        await begin(store)
        await store.end(ADA, "turn_1", outcome("1"))


async def test_one_that_needs_a_later_release_keeps_this_one_out(empty_postgres: str) -> None:
    await migrate(address(empty_postgres))
    await fetched(empty_postgres, "INSERT INTO migrations VALUES (99, 98) RETURNING 1")
    with pytest.raises(SchemaTooNewError, match="schema 99"):
        await PostgresStore(empty_postgres).__aenter__()


async def test_letters_that_cannot_all_be_kept_are_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(UnfitError, match="LATIN1"):
        await migrate(address(postgres.url("latin")))


async def test_a_database_that_is_not_there_is_said_to_be_away(postgres: PostgresServer) -> None:
    with pytest.raises(UnavailableError, match="nowhere"):
        await migrate(address(postgres.url("nowhere")))


async def test_what_a_release_before_writes_beside_us_stands_where_it_should(
    empty_postgres: str,
) -> None:
    async with PostgresStore(empty_postgres) as store:
        await exchange(store, into="c")
        await store.create(ADA, conversation("empty", at=3))
        await fetched(
            empty_postgres, "UPDATE conversations SET active_at = NULL, updated_at = 7 RETURNING 1"
        )
        await store.create(ADA, conversation("new", at=5))
        await store.update(ADA, "c", {"title": "Renamed"}, 99)
        listed = (await store.conversations(ADA, limit=5, order=Order.ACTIVITY)).items
    told = [(one.id, one.last_message_at) for one in listed]
    assert told == [("empty", None), ("c", 7), ("new", None)]

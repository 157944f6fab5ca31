"""Tests of turns where many nodes write at once, or the answer to a statement is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from storage.model import Status
from storage.port import BusyError, NotFoundError, Piece
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, DAY, begin, claim, conversation, exchange, message, outcome
from tests.support.postgres import NODES, PostgresServer, emptied


@pytest.fixture
async def nodes(postgres: PostgresServer, postgres_url: str) -> AsyncIterator[list[PostgresStore]]:
    """Stores of as many servers on one database, none of which waits for another in a circle."""
    await emptied(postgres_url)
    circles = postgres.log.count("deadlock detected")
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(PostgresStore(f"{postgres_url}?pool_size=3"))
            for _ in range(NODES)
        ]
    assert postgres.log.count("deadlock detected") == circles


async def test_of_many_nodes_one_ends_a_turn(nodes: list[PostgresStore]) -> None:
    for number in range(10):
        name, into = f"t{number}", f"c{number}"
        await begin(nodes[0], name, into=into)
        ended = await asyncio.gather(
            *(
                node.end(ADA, f"turn_{name}", outcome(f"{name}_{n}", f"by {n}"))
                for n, node in enumerate(nodes)
            )
        )
        assert len({one.answer for one in ended}) == 1
        assert (await nodes[0].conversation(ADA, into)).message_count == 2
    assert await nodes[0].spent(ADA, 0) == 10 * (7 + 2)


async def test_of_many_nodes_one_has_a_claim(nodes: list[PostgresStore]) -> None:
    for round_ in range(5):
        used = claim(f"key {round_}")
        begun = await asyncio.gather(
            *(
                begin(node, f"{round_}_{n}", into=f"c{round_}_{n}", claim=used)
                for n, node in enumerate(nodes)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(one, BusyError) for one in begun) == NODES - 1
        (winner,) = (one for one in begun if not isinstance(one, BaseException))
        assert await nodes[0].claimed(ADA, used) == winner.id
        listed = await nodes[0].conversations(ADA, limit=100)
        assert len(listed.items) == round_ + 1


async def test_claims_that_are_outlived_are_taken_away_by_many_at_once(
    nodes: list[PostgresStore],
) -> None:
    for number in range(40):
        await begin(nodes[0], f"old{number}", into=f"o{number}", claim=claim(f"old {number}"))
    later = [claim(f"new {n}", now=3 * DAY) for n in range(NODES)]
    await asyncio.gather(
        *(begin(node, f"n{n}", into=f"n{n}", claim=later[n]) for n, node in enumerate(nodes))
    )
    for one, node in zip(later, nodes, strict=True):
        assert await node.claimed(ADA, one) is not None


async def test_turns_begin_and_end_while_others_write_there(nodes: list[PostgresStore]) -> None:
    await nodes[0].create(ADA, conversation())

    async def ask(node: PostgresStore, name: str) -> None:
        for number in range(10):
            try:
                await begin(node, f"{name}_{number}")
            except BusyError:
                continue
            turn_id = f"turn_{name}_{number}"
            await node.checkpoint([Piece(ADA, turn_id, 0, "Some")])
            await asyncio.gather(
                node.end(ADA, turn_id, outcome(f"{name}_{number}")),
                node.update(ADA, "c", {"title": name}, 9),
                node.put(ADA, conversation(), [message(f"m_{name}_{number}")], []),
            )

    await asyncio.gather(*(ask(node, str(n)) for n, node in enumerate(nodes)))
    kept = await nodes[0].conversation(ADA, "c")
    told = await nodes[0].every_message(ADA, "c", after=None, limit=1000)
    assert kept.message_count == len(told)
    assert await nodes[0].running() == []


async def test_no_conversation_is_deleted_under_a_turn_that_begins(
    nodes: list[PostgresStore],
) -> None:
    for number in range(20):
        into, name = f"c{number}", f"t{number}"
        await exchange(nodes[0], f"first{number}", into=into)
        begun, deleted = await asyncio.gather(
            begin(nodes[1], name, into=into, parent=f"a_first{number}"),
            nodes[2].delete(ADA, into),
            return_exceptions=True,
        )
        if isinstance(begun, BaseException):
            assert isinstance(begun, NotFoundError)
            assert deleted is None
        else:
            assert isinstance(deleted, BusyError)
            assert (await nodes[3].turn(ADA, f"turn_{name}")).status is Status.RUNNING


@pytest.mark.parametrize("store", ["postgres_url", "postgres_pooled"], indirect=True)
async def test_a_cancelled_caller_s_beginning_and_end_are_kept(store: PostgresStore) -> None:
    for number in range(10):
        name, into = str(number), f"c{number}"
        asked = asyncio.create_task(begin(store, name, into=into))
        while not store.waiting:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        while store.waiting:
            await asyncio.sleep(0)
        assert (await store.turn(ADA, f"turn_{name}")).status is Status.RUNNING
        told = asyncio.create_task(store.end(ADA, f"turn_{name}", outcome(name)))
        while not store.waiting:
            await asyncio.sleep(0)
        told.cancel()
        await asyncio.wait([told])
        while store.waiting:
            await asyncio.sleep(0)
        assert (await store.turn(ADA, f"turn_{name}")).status is Status.COMPLETED

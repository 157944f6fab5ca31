"""Tests of the one line of a conversation: who begins next of all nodes, and taking back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from storage.line import Standing
from storage.model import Turn
from storage.port import BusyError, NotNextError
from storage.postgres.store import PostgresStore
from tests.storage.nouns import ADA, BOB, HERE, conversation, message, outcome, turn
from tests.support.postgres import emptied

MOST = 3


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[list[PostgresStore]]:
    """Three servers on one database, each of which is one of its nodes."""
    await emptied(postgres_url)
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(PostgresStore(postgres_url)) for _ in range(3)]
        for number, one in enumerate(made):
            await one.members.join(f"node{number}", "")
        yield made


async def join(store: PostgresStore, *names: str, urgent: bool = False) -> None:
    standing = [Standing(HERE, name, urgent, f"{name}\x00?", "rest", 7) for name in names]
    await store.members.line.write(store.members.node, standing, ())


async def begin(store: PostgresStore, name: str, waiting: str | None = None) -> Turn:
    """Begin a turn in the conversation, and end it."""
    question = message(f"q_{name}", turn_id=f"turn_{name}")
    new, make = turn(name), conversation("c")
    begun = await store.begin(ADA, new, question, conversation=make, waiting=waiting)
    await store.end(ADA, new.id, outcome(name))
    return begun


async def names(store: PostgresStore, **which: Any) -> list[str]:
    found = await store.members.line.read(store.members.node, MOST, **which)
    return [one.id for one in found[HERE].first] if HERE in found else []


async def test_a_line_is_told_in_the_order_of_its_calls_to_all(
    stores: list[PostgresStore],
) -> None:
    one, other, third = stores
    await join(one, "a", "b")
    await join(other, "c", "d")
    await join(one, "e", urgent=True)
    for store in stores:
        found = await store.members.line.read(store.members.node, MOST)
        told = found[HERE]
        assert [at.id for at in told.first] == ["e", "a", "b"]
        assert (told.count, told.elsewhere) == (5, True)
    assert told.first[1] == Standing(HERE, "a", False, "a\x00?", "rest", 7)
    await one.members.line.write("node0", (), ["e", "a", "b"])
    await join(other, "f")
    assert await names(third, places=[HERE, (BOB, "c")]) == ["c", "d", "f"]
    assert not (await other.members.line.read("node1", MOST))[HERE].elsewhere
    assert await names(third, places=[(BOB, "c"), (ADA, "d")]) == []


async def test_who_stands_first_begins_and_nobody_before_him(stores: list[PostgresStore]) -> None:
    one, other, third = stores
    await join(one, "a")
    await join(other, "b")
    await join(one, "c")
    for store, waiting in ((other, "b"), (third, None)):
        with pytest.raises(NotNextError):
            await begin(store, "0", waiting)
    await begin(one, "a", "a")
    assert await names(third) == ["b", "c"], "it waits no more"
    with pytest.raises(NotNextError):
        await begin(one, "0", "c")
    await join(third, "d", urgent=True)
    with pytest.raises(NotNextError):
        await begin(other, "0", "b")
    for store, name in ((third, "d"), (other, "b"), (one, "c")):
        await begin(store, name, name)
    await begin(third, "e")


async def test_who_waits_at_a_node_that_is_gone_is_before_nobody(
    stores: list[PostgresStore],
) -> None:
    one, other, third = stores
    await join(one, "a")
    await join(other, "b")
    await third.members.bury("node0", 0)
    assert await names(third) == ["b"]
    assert await third.members.line.sweep() == {HERE}
    assert await third.members.line.sweep() == set()
    await begin(other, "b", "b")


async def test_what_was_withdrawn_does_not_begin_and_what_began_is_not_withdrawn(
    stores: list[PostgresStore],
) -> None:
    one, other, _ = stores
    await join(one, "a", "b")
    withdraw = other.members.line.withdraw
    for owner, place, name in ((BOB, "c", "a"), (ADA, "d", "a"), (ADA, "c", "z")):
        assert await withdraw(owner, place, name) is False
    assert await withdraw(ADA, "c", "a") is True
    assert await withdraw(ADA, "c", "a") is False
    assert await one.members.line.of("node0") == {"a": (HERE, True), "b": (HERE, False)}
    assert await names(other) == ["b"]
    with pytest.raises(NotNextError):
        await begin(one, "a", "a")
    await begin(one, "b", "b")
    assert await withdraw(ADA, "c", "b") is False


async def test_of_taking_back_and_beginning_at_the_same_moment_one_is_done(
    stores: list[PostgresStore],
) -> None:
    one, other, _ = stores
    for number in range(20):
        name = f"w{number}"
        await join(one, name)
        began, taken = await asyncio.gather(
            begin(one, name, name),
            other.members.line.withdraw(ADA, "c", name),
            return_exceptions=True,
        )
        assert isinstance(began, BusyError) is taken
        await one.members.line.write("node0", (), [name])


async def test_a_row_that_is_written_again_is_the_new_name_s(stores: list[PostgresStore]) -> None:
    one, other, _ = stores
    await join(one, "a")
    await join(other, "b")
    await one.members.join("node0-again", "")
    await join(one, "a")
    assert await names(other) == ["a", "b"]
    assert await one.members.line.of("node0-again") == {"a": (HERE, False)}

"""The one line of a conversation, as several nodes see it through one table and one bell."""

from __future__ import annotations

import asyncio

import pytest

from server.live.waiting import Waiting, WithdrawnError
from server.nodes.live import NodeLiveTurns
from storage.line import Standing
from tests.server.core.following import settled
from tests.storage.nouns import ADA, HERE
from tests.support.fake_nodes import Bell, Row, Table, node_of


class Nodes:
    """Two nodes, and the table that they share."""

    def __init__(self) -> None:
        self.table, bell = Table(), Bell()
        self.all = [node_of(100, self.table, bell, f"node{number}") for number in range(2)]

    async def ask(self, at: int, name: str, *, first: bool = False) -> asyncio.Task[None]:
        asks = Waiting(name, f"{name}?", "rest", 1)
        asked = asyncio.create_task(self.all[at].take(HERE, first=first, asks=asks))
        await settled()
        return asked

    def told(self) -> list[list[str]]:
        return [[asks.id for asks in node.line(HERE).waiting] for node in self.all]


@pytest.fixture
async def two() -> Nodes:
    """Two nodes, at each of which somebody has the place."""
    nodes = Nodes()
    for node in nodes.all:
        await node.take(HERE)
    return nodes


async def test_all_are_told_of_all_in_the_order_of_their_calls(two: Nodes) -> None:
    await two.ask(0, "a")
    assert two.told() == [["a"]] * 2
    await two.ask(1, "b")
    await two.ask(0, "c")
    await two.ask(1, "d", first=True)
    assert two.told() == [["d", "a", "b", "c"]] * 2
    assert two.all[0].line(HERE) is two.all[0].line(HERE)
    two.all[1].give_back(HERE)
    await settled()
    assert two.all[1].waited_as(HERE) == "d"
    two.all[1].notify(HERE)  # its turn is begun, and its row gone with that
    del two.table.waiting["d"]
    await settled()
    assert two.told() == [["a", "b", "c"]] * 2


async def test_who_listens_and_who_watches_hears_of_it_once(two: Nodes) -> None:
    moved: list[object] = []
    two.all[1].hear(lambda _owner, what: moved.append(what))
    heard = two.all[1].listen(HERE)
    await two.ask(0, "a")
    assert heard.done()
    await two.ask(1, "b")
    assert len(moved) == 2


async def test_one_is_taken_back_at_another_node(two: Nodes) -> None:
    asked, staying = await two.ask(0, "a"), await two.ask(0, "b")
    assert not await two.all[1].withdraw((ADA, "d"), "a")
    assert await two.all[1].withdraw(HERE, "a")
    await settled()
    assert isinstance(asked.exception(), WithdrawnError)
    assert not staying.done()
    assert two.told() == [["b"]] * 2
    assert list(two.table.waiting) == ["b"]


async def test_what_was_taken_back_is_read_where_it_was_not_heard(two: Nodes) -> None:
    asked = await two.ask(0, "a")
    two.table.withdrawn.add("a")
    await two.all[0].look_at_lines()
    await settled()
    assert isinstance(asked.exception(), WithdrawnError)


async def test_who_steps_back_keeps_his_row_and_who_leaves_does_not(two: Nodes) -> None:
    node = two.all[0]
    asked = await two.ask(0, "a")
    await two.ask(1, "b")
    node.give_back(HERE)
    await asked
    again = asyncio.create_task(node.take_again(HERE, asks=Waiting("a", "a?", "rest", 1)))
    await settled()
    assert two.told() == [["a", "b"]] * 2
    node.give_back(HERE)
    await again
    node.give_back(HERE)
    await settled()
    assert two.told() == [["b"]] * 2
    assert not node.taken(HERE)


async def test_rows_that_are_lost_are_written_anew(two: Nodes) -> None:
    await two.ask(0, "a")
    two.table.waiting.clear()
    for node in two.all:
        await node.look_at_lines()
    await settled()
    assert two.told() == [["a"]] * 2


async def test_rows_of_ours_that_nobody_waits_behind_are_let_go(two: Nodes) -> None:
    await two.ask(0, "a")
    two.table.waiting["ghost"] = "node0", Standing(HERE, "ghost", True, "?", "rest", 1)
    await two.all[0].look_at_lines()
    await settled()
    assert list(two.table.waiting) == ["a"]


async def test_what_cannot_be_written_is_written_later(
    two: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.nodes.lines.LOOK", 0.0)
    two.table.away = True
    staying, leaving = await two.ask(0, "a"), await two.ask(0, "b")
    assert two.told() == [["a", "b"], []], "where it waits it is known"
    leaving.cancel()
    await settled()
    two.table.away = False
    await settled()
    assert two.told() == [["a"]] * 2
    two.all[0].give_back(HERE)
    await staying


async def test_those_of_a_node_that_is_gone_are_swept(two: Nodes) -> None:
    await two.ask(0, "a")
    await two.ask(1, "b")
    del two.table.rows["node0"]
    await two.all[1].look_at_lines()
    await settled()
    assert two.all[1].line(HERE).count == 1
    two.table.rows["node0"] = Row("")
    await look_again(two.all[0])
    assert two.told() == [["b", "a"]] * 2


async def look_again(node: NodeLiveTurns) -> None:
    """Look as a node does that was taken for dead, and is none."""
    await node.look_at_lines()
    await settled()

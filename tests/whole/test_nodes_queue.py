"""One line a conversation, where servers are several: its order, what is told, taking back."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tests.support.all_mine import MINE
from tests.support.nodes import Node, nodes
from tests.support.postgres import PostgresServer, emptied, fetched
from tests.support.upstream_script import say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import Listener, checked, refused
from tests.whole.watching import Watching, refusal, watching


async def lines(watching: list[Watching], count: int) -> list[dict[str, Any]]:
    """Return the line as each is told it, when so many wait."""

    async def line(one: Watching) -> dict[str, Any]:
        while (told := await one.until("queue.changed"))["count"] != count:
            pass
        return told

    return list(await asyncio.gather(*map(line, watching)))


async def running(node: Node, conversation: str = "line") -> Listener:
    """Ask what is answered until it is let go."""
    asker = Listener(WIRES["rest"](node).ask(conversation, "Begin"))
    await asker.until("Begun ")
    return asker


async def test_who_waits_is_told_and_taken_back_at_every_node_and_wire(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    watchers = [
        await watching(MINE[name](at), at.http) for name, at in zip(MINE, three, strict=True)
    ]
    for names in itertools.permutations(MINE):
        a, b, c = (MINE[name](at) for name, at in zip(names, three, strict=True))
        gate, conversation = asyncio.Event(), "-".join(names)
        scripted.script(say("Begun ", gate))
        asker = await running(three[0], conversation)
        one = asyncio.create_task(refusal(b.ask(conversation, "Mine?")))
        told = await lines(watchers, 1)
        assert told == [told[0]] * 3
        (first,) = told[0]["waiting"]
        assert (first["prompt"], first["wire"]) == ("Mine?", names[1])
        other = asyncio.create_task(refusal(a.ask(conversation, "And mine?")))
        told = await lines(watchers, 2)
        assert told == [told[0]] * 3
        assert told[0]["waiting"][0] == first
        for asks, wire, waiting, left in (
            (one, c, first, told[0]["waiting"][1:]),
            (other, b, told[0]["waiting"][1], []),
        ):
            await wire.withdraw(conversation, waiting["id"])
            assert await asks == "conversation_busy"
            assert [one["waiting"] for one in await lines(watchers, len(left))] == [left] * 3
            assert await refused(wire.withdraw(conversation, waiting["id"])) == "not_found"
        gate.set()
        await asker.ends()
    for watcher in watchers:
        await watcher.leave()


async def test_who_watches_a_conversation_is_told_of_those_who_wait_at_other_nodes(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Begun ", gate))
    asker = await running(three[0])
    counts = []
    async with aclosing(WIRES["websocket"](three[2]).watch("line")) as events:
        assert (await anext(events)).kind == "turn.started"
        waiting = Listener(WIRES["grpc"](three[1]).ask("line", "And now?"))
        async for event in events:
            counts += [event.kind] if event.kind == "queue.changed" else []
            if counts == ["queue.changed"]:
                gate.set()
            if len(counts) == 2:
                break
    await asker.ends()
    await waiting.ends()


async def test_a_line_is_called_in_the_order_in_which_it_was_joined_anywhere(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate, wires = asyncio.Event(), itertools.cycle(WIRES)
    scripted.script(say("Begun ", gate))
    watcher = await watching(MINE["rest"](three[1]), three[1].http)
    asker = await running(three[0])
    order = [1, 2, 0, 1, 0, 0, 2, 1, 2, 2]
    askers = []
    for number, at in enumerate(order):
        askers.append(Listener(WIRES[next(wires)](three[at]).ask("line", f"Question {number}")))
        [told] = await lines([watcher], number + 1)
    assert [one["prompt"] for one in told["waiting"]] == [
        f"Question {n}" for n in range(len(order))
    ]
    gate.set()
    for one in (asker, *askers):
        end = checked(await one.ends()).turn
        assert end is not None
        assert end["status"] == "completed"
    branch = await WIRES["grpc"](three[2]).branch("line")
    asked = [one["content"] for one in branch if one["role"] == "user"]
    assert asked == ["Begin", *(f"Question {n}" for n in range(len(order)))]
    await watcher.leave()


async def test_who_interrupts_goes_before_those_who_wait_elsewhere(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    scripted.script(say("Begun ", asyncio.Event()))
    watcher = await watching(MINE["rest"](three[0]), three[0].http)
    asker = await running(three[0])
    patient = Listener(WIRES["grpc"](three[1]).ask("line", "Whenever"))
    await lines([watcher], 1)
    urgent = Listener(WIRES["websocket"](three[2]).ask("line", "Now", if_busy="interrupt"))
    ends = [checked(await one.ends()).turn for one in (asker, urgent, patient)]
    assert [one["status"] for one in ends if one] == ["cancelled", "completed", "completed"]
    branch = await WIRES["rest"](three[1]).branch("line")
    asked = [one["content"] for one in branch if one["role"] == "user"]
    assert asked == ["Begin", "Now", "Whenever"]
    await watcher.leave()


async def test_those_behind_one_whose_node_dies_go_on(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Begun ", gate))
    watcher = await watching(MINE["rest"](three[0]), three[0].http)
    asker = await running(three[0])
    lost = Listener(WIRES["rest"](three[1]).ask("line", "Lost"))
    await lines([watcher], 1)
    behind = [Listener(WIRES["grpc"](three[at]).ask("line", f"At {at}")) for at in (0, 2)]
    await lines([watcher], 3)
    three[1].kill()
    await three[1].ended()
    [told] = await lines([watcher], 2)
    assert {one["prompt"] for one in told["waiting"]} == {"At 0", "At 2"}
    gate.set()
    for one in (asker, *behind):
        await one.ends()
    await lost.leave()
    await watcher.leave()
    assert await fetched(empty_postgres, "SELECT count(*) FROM waiting") == [(0,)]
    branch = await WIRES["rest"](three[0]).branch("line")
    assert {one["content"] for one in branch if one["role"] == "user"} == {"Begin", "At 0", "At 2"}


async def test_who_leaves_waits_no_more_and_neither_do_those_of_a_node_that_drains(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Begun ", gate))
    watcher = await watching(MINE["rest"](three[0]), three[0].http)
    asker = await running(three[0])
    leaving = Listener(WIRES["grpc"](three[2]).ask("line", "Never mind"))
    await lines([watcher], 1)
    drained = asyncio.create_task(refusal(WIRES["rest"](three[1]).ask("line", "Drained")))
    await lines([watcher], 2)
    behind = Listener(WIRES["rest"](three[2]).ask("line", "Behind"))
    await lines([watcher], 3)
    three[1].terminate()
    assert await three[1].ended() == 0
    assert await drained == "draining"
    await lines([watcher], 2)
    await leaving.leave()
    [told] = await lines([watcher], 1)
    assert [one["prompt"] for one in told["waiting"]] == ["Behind"]
    gate.set()
    for one in (asker, behind):
        await one.ends()
    await watcher.leave()


async def test_a_line_outlives_its_rows_where_the_database_is_killed(
    tmp_path: Path, postgres: PostgresServer, scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Begun ", gate))
    url = postgres.fresh()
    async with nodes(tmp_path, url, scripted) as three:
        watcher = await watching(MINE["rest"](three[0]), three[0].http)
        asker = await running(three[0])
        behind = []
        for number, at in enumerate((1, 2, 1, 0, 2)):
            behind.append(Listener(WIRES["grpc"](three[at]).ask("line", f"Question {number}")))
            await lines([watcher], number + 1)
        postgres.kill()
        await asyncio.to_thread(postgres.start)
        gate.set()
        for one in (asker, *behind):
            end = checked(await one.ends()).turn
            assert end is not None
            assert end["status"] == "completed"
        assert await fetched(url, "SELECT count(*) FROM waiting") == [(0,)]
        await watcher.leave()


async def test_behind_a_pooler_that_swallows_notifications_a_line_is_one_as_well(
    tmp_path: Path, postgres_pooled: str, scripted: ScriptedUpstream
) -> None:
    url = await emptied(postgres_pooled)
    gate = asyncio.Event()
    scripted.script(say("Begun ", gate))
    async with nodes(tmp_path, url, scripted) as three:
        watcher = await watching(MINE["rest"](three[0]), three[0].http)
        asker = await running(three[0])
        behind = []
        for number, at in enumerate((1, 2, 0, 2)):
            asked = WIRES["rest"](three[at]).ask("line", f"Question {number}")
            behind.append(asyncio.create_task(refusal(asked)))
            [told] = await lines([watcher], number + 1)
        await MINE["rest"](three[0]).withdraw("line", told["waiting"][1]["id"])
        assert await behind[1] == "conversation_busy"
        gate.set()
        await asker.ends()
        assert [await behind[at] for at in (0, 2, 3)] == ["not refused"] * 3
        branch = await WIRES["rest"](three[1]).branch("line")
        said = [one["content"] for one in branch if one["role"] == "user"]
        assert said == ["Begin", "Question 0", "Question 2", "Question 3"]
        await watcher.leave()

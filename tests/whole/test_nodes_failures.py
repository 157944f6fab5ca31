"""What becomes of turns where a node dies, is paused, or the database goes away and comes back."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tests.support.all_mine import MINE
from tests.support.nodes import Node, nodes
from tests.support.postgres import PostgresServer, emptied, fetched
from tests.support.upstream_script import Behaviour, Exchange, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import Listener, checked, heard

#: Seconds between the words of an answer that goes on by itself.
EACH = 0.02


def counting(words: int) -> Behaviour:
    """Count aloud, a word at a time, without being asked on."""

    async def behave(exchange: Exchange) -> None:
        gates = [asyncio.Event() for _ in range(words)]
        steps: list[Any] = [one for n, gate in enumerate(gates) for one in (f"{n} ", gate)]
        opening = asyncio.create_task(_open(gates))
        try:
            await say(*steps)(exchange)
        finally:
            opening.cancel()

    return behave


async def _open(gates: list[asyncio.Event]) -> None:
    for gate in gates:
        await asyncio.sleep(EACH)
        gate.set()


async def test_a_node_is_killed_in_mid_answer(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    scripted.script(counting(10_000))
    a, b, c = (WIRES[name](at) for name, at in zip(WIRES, three, strict=True))
    asker = Listener(a.ask("c", "Count"))
    await asker.until("20 ")
    follower, watcher = Listener(b.follow(asker.turn_id)), Listener(c.watch("c"))
    await asyncio.gather(follower.until("40 "), watcher.until("40 "))
    late = asyncio.get_running_loop().time() + 10
    three[0].kill()
    ends = [checked(await one.ends()) for one in (follower, watcher)]
    assert asyncio.get_running_loop().time() < late, "told within ten seconds, says the contract"
    assert ends[0] == ends[1]
    assert ends[0].turn is not None
    assert ends[0].turn["status"] == "interrupted"
    said = ends[0].turn["answer"]
    told = int(asker.text.split()[-1])
    assert int(said.split()[-1]) >= told - 1 / EACH, "at most a second is missing"
    end = await heard(b, "c", "Again")
    assert end.turn is not None
    assert end.turn["status"] == "completed"
    await asker.leave()
    await watcher.leave()


async def test_what_nobody_followed_is_as_of_its_last_checkpoint(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    scripted.script(counting(10_000))
    asker = Listener(WIRES["rest"](three[0]).ask("c", "Count"))
    await asker.until("100 ")
    three[0].kill()
    told = int(asker.text.split()[-1])
    end = checked(await Listener(WIRES["grpc"](three[1]).follow(asker.turn_id)).ends())
    assert end.turn is not None
    assert end.turn["status"] == "interrupted"
    assert int(end.turn["answer"].split()[-1]) >= told - 1 / EACH
    await asker.leave()


async def test_a_node_that_was_paused_tells_and_writes_nothing_of_what_was_declared(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    scripted.script(counting(10_000))
    a, b = WIRES["rest"](three[0]), WIRES["grpc"](three[1])
    asker = Listener(a.ask("c", "Count"))
    await asker.until("20 ")
    follower = Listener(b.follow(asker.turn_id))
    await follower.until("30 ")
    three[0].pause()
    end = checked(await follower.ends())
    assert end.turn is not None
    assert end.turn["status"] == "interrupted"
    said = end.turn["answer"]
    again = await heard(b, "c", "Again")
    rows = "SELECT id, status, answer, ended_at FROM turns ORDER BY key"
    before = await fetched(empty_postgres, rows)
    heard_before = asker.text
    three[0].go_on()
    ended = (await asker.ends())[-1]
    assert ended.turn == end.turn
    # What it had sent before it stood still may come after; nothing that it read later does.
    assert said.startswith(asker.text) or asker.text.startswith(said)
    assert len(asker.text) - len(said) < 200
    assert len(asker.text) >= len(heard_before)
    assert await fetched(empty_postgres, rows) == before
    assert again.turn is not None
    # It goes on, under another name.
    last = await heard(a, "c", "And you?")
    assert last.turn is not None
    assert last.turn["status"] == "completed"
    assert "taken for dead" in three[0].log


async def test_no_turn_is_lost_where_the_database_is_killed_and_comes_back(
    tmp_path: Path, postgres: PostgresServer, scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Before ", gate, "and after."))
    async with nodes(tmp_path, postgres.fresh(), scripted, 2) as two:
        a, b = (WIRES["rest"](one) for one in two)
        asker = Listener(a.ask("c", "Hello"))
        await asker.until("Before ")
        follower = Listener(b.follow(asker.turn_id))
        await follower.until("Before ")
        postgres.kill()
        try:
            gate.set()
            # Longer than it takes until a node is dead: none may be, for nobody could look.
            await asyncio.sleep(7)
        finally:
            await asyncio.to_thread(postgres.start)
        ends = [checked(await one.ends()) for one in (asker, follower)]
        assert ends[0] == ends[1]
        assert ends[0].turn is not None
        assert (ends[0].turn["status"], ends[0].turn["answer"]) == (
            "completed",
            "Before and after.",
        )


async def test_nodes_that_cannot_reach_each_other_follow_by_the_rows(
    tmp_path: Path, empty_postgres: str, scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Far ", gate, "away"), say("Never ", asyncio.Event()))
    nowhere = {"TRIALOGUE_NODE_ADDRESS": "127.0.0.1:1"}
    async with nodes(tmp_path, empty_postgres, scripted, 2, **nowhere) as two:
        a, b = WIRES["rest"](two[0]), WIRES["websocket"](two[1])
        asker = Listener(a.ask("c", "Hello"))
        await asker.until("Far ")
        follower = Listener(b.follow(asker.turn_id))
        await follower.until("Far ")
        gate.set()
        ends = [checked(await one.ends()) for one in (asker, follower)]
        assert ends[0] == ends[1]
        asker = Listener(a.ask("c", "Stop"))
        await asker.until("Never ")
        assert (await b.cancel(asker.turn_id))["status"] == "cancelled"
        await asker.ends()


async def test_a_node_that_leaves_takes_its_followers_of_others_along(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("On ", gate, "and on"))
    asker = Listener(WIRES["rest"](three[0]).ask("c", "Hello"))
    await asker.until("On ")
    follower = Listener(WIRES["rest"](three[1]).follow(asker.turn_id))
    await follower.until("On ")
    three[1].terminate()
    assert await three[1].ended() == 0
    await follower.leave()
    gate.set()
    end = checked(await asker.ends())
    assert end.turn is not None
    assert end.turn["answer"] == "On and on"


async def test_behind_a_pooler_that_swallows_notifications_all_is_looked_for(
    tmp_path: Path, postgres_pooled: str, scripted: ScriptedUpstream
) -> None:
    url = await emptied(postgres_pooled)
    gate = asyncio.Event()
    scripted.script(say("First."), say("Slow ", gate, "news"), say("Never ", asyncio.Event()))
    nowhere = {"TRIALOGUE_NODE_ADDRESS": "127.0.0.1:1"}
    async with nodes(tmp_path, url, scripted, 2, **nowhere) as two:
        a, b = WIRES["rest"](two[0]), WIRES["websocket"](two[1])
        await heard(a, "c")
        watcher = Listener(b.watch("c"))
        asker = Listener(a.ask("c", "And?"))
        await watcher.until("Slow ")
        gate.set()
        assert (await watcher.ends())[-1] == (await asker.ends())[-1]
        asker = Listener(a.ask("c", "Stop"))
        await asyncio.gather(asker.until("Never "), watcher.until("Never "))
        assert (await b.cancel(asker.turn_id))["status"] == "cancelled"
        await watcher.leave()


async def test_who_watches_all_is_told_that_a_notification_may_be_lost(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    scripted.script(say("Heard"))
    async with aclosing(MINE["rest"](three[1]).news()) as news:
        told = asyncio.ensure_future(anext(news))
        await asyncio.sleep(2)  # for the bells to be heard
        await heard(WIRES["rest"](three[0]), "c", "Hello")
        assert (await told)["type"] == "conversation.created"
        await fetched(empty_postgres, _DEAFEN)
        async with asyncio.timeout(10):
            while (await anext(news))["type"] != "resync":
                pass


#: Cuts those off who listen.
_DEAFEN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""

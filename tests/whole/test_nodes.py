"""Several servers on one PostgreSQL are one service: what is asked at one is everybody's."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, aclosing
from typing import Any

import aiohttp

from tests.support.all_mine import MINE, News
from tests.support.nodes import Node
from tests.support.postgres import fetched
from tests.support.upstream_script import event, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import Listener, checked, heard, refused

#: All messages of the only conversation, from its root to its head.
BRANCH = """
WITH RECURSIVE branch AS (
    SELECT key, parent, role, content, 1 AS depth FROM messages
    WHERE key = (SELECT head FROM conversations)
    UNION ALL
    SELECT m.key, m.parent, m.role, m.content, b.depth + 1
    FROM branch b JOIN messages m ON m.key = b.parent
) SELECT role, content FROM branch ORDER BY depth DESC
"""


async def test_who_asks_follows_and_cancels_each_at_another_node_and_wire(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    for names in itertools.permutations(WIRES):
        a, b, c = (WIRES[name](at) for name, at in zip(names, three, strict=True))
        conversation, middle, never = "-".join(names), asyncio.Event(), asyncio.Event()
        scripted.script(say("Héllo ", "😀", middle, " and ", "bye"), say("Once upon ", never))
        asker = Listener(a.ask(conversation, "What is the time?"))
        await asker.until("😀")
        follower, watcher = Listener(b.follow(asker.turn_id)), Listener(c.watch(conversation))
        await asyncio.gather(follower.until("Héllo 😀"), watcher.until("Héllo 😀"))
        late = Listener(c.follow(asker.turn_id, 3))
        await late.until("lo 😀")
        middle.set()
        ends = [checked(await one.ends()) for one in (asker, follower, watcher)]
        ends.append(checked(await late.ends(), after=3))
        assert ends == [ends[0]] * 4
        assert ends[0].turn is not None
        assert ends[0].turn["answer"] == "Héllo 😀 and bye"

        asker = Listener(b.ask(conversation, "Say much."))
        await asker.until("Once upon ")
        follower = Listener(a.follow(asker.turn_id))
        await follower.until("Once upon ")
        cancelled = await c.cancel(asker.turn_id)
        ends = [checked(await one.ends()) for one in (asker, follower)]
        assert (cancelled["status"], cancelled["answer"]) == ("cancelled", "Once upon ")
        assert [one.turn for one in ends] == [cancelled] * 2
        await watcher.ends(2)
        assert checked(watcher.heard[-len(ends[0:1]) - 2 :]).turn == cancelled
        await watcher.leave()
        assert await a.messages(conversation) == await c.messages(conversation)


async def test_one_turn_at_a_time_in_one_line(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    wires = [WIRES[name](at) for name, at in zip(WIRES, three, strict=True)]
    asked = 200
    ends = await asyncio.gather(
        *(heard(wires[n % 3], "line", f"Question {n}") for n in range(asked))
    )
    assert [one.turn["status"] for one in ends if one.turn] == ["completed"] * asked
    branch = await fetched(empty_postgres, BRANCH)
    assert [role for role, _ in branch] == ["user", "assistant"] * asked
    assert {content for _, content in branch[::2]} == {f"Question {n}" for n in range(asked)}
    [(count,)] = await fetched(empty_postgres, "SELECT count(*) FROM messages")
    assert count == 2 * asked
    # Each prompt has all that stands before it: nobody answered without knowing the line.
    assert sorted(len(one.body["messages"]) for one in scripted.requests) == list(
        range(1, 2 * asked, 2)
    )


async def test_who_does_not_want_to_wait_is_refused_or_interrupts(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    a, b, c = (WIRES[name](at) for name, at in zip(WIRES, three, strict=True))
    never = asyncio.Event()
    scripted.script(say("For ever ", never), say("Now."))
    first = Listener(a.ask("c", "Begin"))
    await first.until("For ever ")
    assert await refused(anext(b.ask("c", "Now?", if_busy="reject"))) == "conversation_busy"
    second = Listener(c.ask("c", "Stop", if_busy="interrupt"))
    end = checked(await first.ends())
    assert end.turn is not None
    assert (end.turn["status"], end.turn["answer"]) == ("cancelled", "For ever ")
    end = checked(await second.ends())
    assert end.turn is not None
    assert (end.turn["status"], end.turn["answer"]) == ("completed", "Now.")


async def test_one_key_is_one_turn_wherever_it_is_asked(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("One", gate, " answer"))
    wires = [
        WIRES[name](at, once="key")
        for name, at in zip(("rest", "grpc", "rest"), three, strict=True)
    ]
    async with AsyncExitStack() as stack:
        listeners = [Listener(wires[n % 3].ask("c", "Hello")) for n in range(50)]
        for one in listeners:
            stack.push_async_callback(one.leave)
        await asyncio.gather(*(one.until("One") for one in listeners))
        gate.set()
        ends = [checked(await one.ends()) for one in listeners]
    assert len({one.turn_id for one in ends}) == 1
    assert len(scripted.requests) == 1
    assert len(await wires[0].messages("c")) == 2


async def test_a_conversation_is_deleted_under_a_turn_of_another_node(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    scripted.script(say("Still ", asyncio.Event()))
    asker = Listener(WIRES["rest"](three[0]).ask("c", "Hello"))
    await asker.until("Still ")
    async with aiohttp.ClientSession() as session:
        await session.delete(f"{three[1].http}/conversations/c", raise_for_status=True)
    end = checked(await asker.ends())
    assert end.turn is not None
    assert end.turn["status"] == "cancelled"
    assert await fetched(empty_postgres, "SELECT count(*) FROM turns") == [(0,)]


async def test_all_that_is_mine_is_told_at_every_node(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say("Before ", asyncio.Event()), say("One", gate, " more"))
    before = Listener(WIRES["rest"](three[0]).ask("early", "Hello"))
    await before.until("Before ")
    async with aclosing(MINE["grpc"](three[1]).news()) as news:
        told = await anext(news)
        assert (told["type"], told["turn"]["id"]) == ("turn.started", before.turn_id)
        asker = Listener(WIRES["websocket"](three[2]).ask("late", "And now?"))
        kinds = [(await _next(news))["type"] for _ in range(2)]
        assert kinds == ["conversation.created", "turn.started"]
        await asker.until("One")
        gate.set()
        end = checked(await asker.ends())
        assert (await _next(news))["type"] == "conversation.updated"
        told = await _next(news)
        assert (told["type"], told["turn"]["id"]) == ("turn.ended", end.turn_id)
        assert told["turn"]["answer"] == "One more"
        async with aiohttp.ClientSession() as session:
            await session.delete(f"{three[0].http}/conversations/late", raise_for_status=True)
        told = await _next(news)
        assert (told["type"], told["conversation_id"]) == ("conversation.deleted", "late")
    await before.leave()


async def _next(news: News) -> dict[str, Any]:
    """Return what is told next of the later conversation: of the other it may be told once more."""
    while (told := await anext(news))["conversation_id"] != "late":
        pass
    return told


async def test_an_answer_of_parts_is_the_same_elsewhere(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    scripted.script(say(thought("Let me see. "), "It is ", gate, thought("Hm. "), "noon."))
    asker = Listener(WIRES["rest"](three[0]).ask("c", "When?"))
    await asker.until("It is ")
    follower = Listener(WIRES["grpc"](three[1]).follow(asker.turn_id))
    await follower.until("It is ")
    gate.set()
    ends = [(await one.ends())[-1] for one in (asker, follower)]
    assert ends[0] == ends[1]
    assert ends[0].turn is not None
    assert [one["type"] for one in ends[0].turn["parts"]] == [
        *("reasoning", "text", "reasoning", "text")
    ]
    assert follower.text == asker.text == "It is noon."
    assert _said(follower) == _said(asker) == ["Let me see. ", "It is ", "Hm. ", "noon."]


def thought(text: str) -> bytes:
    """Return a piece of what an upstream thinks."""
    choice = {"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def _said(listener: Listener) -> list[str]:
    """Return what each part of an answer says, however it was cut into deltas."""
    parts: dict[int, str] = {}
    for one in listener.heard:
        if one.kind == "turn.delta":
            index = int(one.part["index"]) if one.part else 0
            parts[index] = parts.get(index, "") + one.text + one.delta
    return list(parts.values())

"""Answers that are written beside others, in branches, where servers are several."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import aiohttp

from tests.support.all_mine import MINE, News
from tests.support.nodes import Node
from tests.support.postgres import fetched
from tests.support.upstream_script import fail, say
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES
from tests.whole.listening import Listener, checked

#: Seconds, for what is done at once where it is done.
SOON = 5.0


async def _respond(node: Node, said: str, **more: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{node.http}/v1/responses",
            json={"model": "gpt-4o-mini", "input": said, **more},
            raise_for_status=True,
        ) as answered,
    ):
        response: dict[str, Any] = await answered.json()
        return response


async def test_a_conversation_is_deleted_under_branches_of_another_node(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    never = asyncio.Event()
    scripted.script(say("One"), say("For ever ", never), say("And ever ", never), say("Two"))
    first = (await _respond(three[0], "Begin"))["id"]
    for asked in range(2):
        await _respond(three[0], "Go on", previous_response_id=first, background=True)
        await scripted.request(asked + 1)
    await _respond(three[1], "And so", previous_response_id=first)
    [(conversation,)] = await fetched(empty_postgres, "SELECT id FROM conversations")
    async with asyncio.timeout(SOON), aiohttp.ClientSession() as session:
        await session.delete(f"{three[1].http}/conversations/{conversation}", raise_for_status=True)
    assert await fetched(empty_postgres, "SELECT count(*) FROM turns") == [(0,)]


async def test_who_interrupts_does_so_to_what_has_the_place_and_to_no_branch(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    gate, never = asyncio.Event(), asyncio.Event()
    scripted.script(say("One"), say("For ever ", never), say("Beside ", gate, "it."), say("Now."))
    rest = WIRES["rest"](three[0])
    first = Listener(rest.ask("c", "Begin"))
    await first.ends()
    running = Listener(rest.ask("c", "Go on"))
    await running.until("For ever ")
    before = first.turn_id.replace("turn_", "resp_")
    branch = await _respond(three[0], "And so", previous_response_id=before, background=True)
    await scripted.request(2)
    async with asyncio.timeout(SOON):
        asker = Listener(WIRES["rest"](three[1]).ask("c", "Stop", if_busy="interrupt"))
        end = checked(await asker.ends())
    assert end.turn is not None
    assert end.turn["answer"] == "Now."
    ended = checked(await running.ends())
    assert ended.turn is not None
    assert ended.turn["status"] == "cancelled"
    gate.set()
    beside = Listener(rest.follow(branch["id"].replace("resp_", "turn_")))
    ended = checked(await beside.ends())
    assert ended.turn is not None
    assert (ended.turn["status"], ended.turn["answer"]) == ("completed", "Beside it.")


async def test_what_is_in_no_list_is_not_told_of_other_nodes(
    three: list[Node], scripted: ScriptedUpstream, empty_postgres: str
) -> None:
    never = asyncio.Event()
    scripted.script(say("For ever ", never), say("Heard"))
    await _respond(three[0], "Begin", background=True)
    await scripted.request(0)
    async with aclosing(MINE["rest"](three[1]).news()) as news:
        first = asyncio.ensure_future(anext(news))
        await asyncio.sleep(0.5)
        three[0].kill()
        async with asyncio.timeout(20):
            while await fetched(empty_postgres, "SELECT status FROM turns") != [("interrupted",)]:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)  # what is told of it is told
        await Listener(WIRES["rest"](three[1]).ask("c", "Hello")).ends()
        told = await first
    assert (told["type"], told["conversation_id"]) == ("conversation.created", "c")


async def test_a_turn_that_is_taken_back_is_told_so_at_other_nodes(
    three: list[Node], scripted: ScriptedUpstream
) -> None:
    scripted.script(fail(400, "It is too long.", code="context_length_exceeded"))
    async with aclosing(MINE["rest"](three[1]).news()) as news:
        heard: list[dict[str, Any]] = []
        reading = asyncio.ensure_future(_until_ended(news, heard))
        await asyncio.sleep(0.5)
        asker = Listener(WIRES["rest"](three[0]).ask("c", "Too long"))
        end = (await asker.ends())[-1]
        async with asyncio.timeout(SOON):
            await reading
    assert [one["type"] for one in heard][-2:] == ["conversation.deleted", "turn.ended"]
    assert end.turn is not None
    for one in ("id", "status", "error", "ended_at"):
        assert end.turn[one] == heard[-1]["turn"][one]


async def _until_ended(news: News, heard: list[dict[str, Any]]) -> None:
    async for told in news:
        heard.append(told)
        if told["type"] == "turn.ended":
            return

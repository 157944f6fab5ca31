"""The list that moves by itself, who asks from where, and the line of questions that wait."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from playwright.async_api import WebSocketRoute, expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from tests.clients.web.proxy import proxied
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


def links(tab: Tab) -> Any:
    return tab.page.get_by_role("navigation", name="Conversations").get_by_role("listitem")


def waiting(tab: Tab) -> Any:
    return tab.page.get_by_role("list", name="Messages").locator("li.waiting")


async def test_the_list_moves_by_itself(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    for name in ("apples", "pears"):
        await served.conversations.create(EVERYONE, id=name, title=name.title())
    tab = await tabs.open(f"{served.http}/")
    await expect(links(tab)).to_have_text(["Pears", "Apples"])
    upstream.say("R")
    turn = await served.conversations.ask(EVERYONE, "apples", Ask("Which?"))
    await expect(links(tab)).to_have_text(["Apples", "Pears"])
    await expect(links(tab).first).to_have_attribute("aria-busy", "true")
    upstream.say("ed").finish()
    await settled(served.conversations, turn.id)
    await expect(links(tab).first).to_have_attribute("aria-busy", "false")
    await served.conversations.create(EVERYONE, id="plums", title="Plums")
    await expect(links(tab)).to_have_text(["Plums", "Apples", "Pears"])
    async with httpx2.AsyncClient(base_url=served.http) as client:
        await client.patch("/conversations/pears", json={"title": "Green pears"})
        await client.delete("/conversations/plums")
    await expect(links(tab)).to_have_text(["Apples", "Green pears"])


async def test_what_happened_while_the_connection_was_lost_is_in_the_list(
    tabs: Tabs, served: Served
) -> None:
    proxy, tab = await proxied(tabs, served)
    await served.conversations.create(EVERYONE, id="apples", title="Apples")
    await expect(links(tab)).to_have_text(["Apples"])
    proxy.freeze()
    await served.conversations.create(EVERYONE, id="pears", title="Pears")
    await proxy.cut()
    await tab.page.clock.fast_forward(1000)
    await expect(links(tab)).to_have_text(["Pears", "Apples"])


async def test_pinned_conversations_come_first(tabs: Tabs, served: Served) -> None:
    for name in ("apples", "pears"):
        await served.conversations.create(EVERYONE, id=name, title=name.title())
    tab = await tabs.open(f"{served.http}/#apples")
    other = await tabs.open(f"{served.http}/")
    pin = tab.page.get_by_role("button", name="Pin")
    await expect(pin).to_have_attribute("aria-pressed", "false")
    await pin.click()
    for one in (tab, other):
        await expect(links(one)).to_have_text(["Apples", "Pears"])
    await expect(pin).to_have_attribute("aria-pressed", "true")
    pinned = tab.page.get_by_role("list", name="Pinned").get_by_role("listitem")
    await expect(pinned).to_have_text(["Apples"])
    await tab.page.reload()
    await expect(pinned).to_have_text(["Apples"])
    await pin.click()
    for one in (tab, other):
        await expect(links(one)).to_have_text(["Pears", "Apples"])


async def test_conversations_are_grouped_by_day(tabs: Tabs, served: Served) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0)
    days = {
        "Today": 0,
        "Yesterday": 1,
        f"{noon - timedelta(3):%A}": 3,
        f"{noon - timedelta(60):%B %Y}": 60,
    }
    conversations: list[dict[str, Any]] = [
        {
            "id": f"c{ago}",
            "title": name,
            "created_at": (noon - timedelta(ago)).isoformat(),
            "updated_at": (noon - timedelta(ago)).isoformat(),
            "head_id": None,
            "messages": [],
            "turns": [],
        }
        for name, ago in days.items()
    ]
    async with httpx2.AsyncClient(base_url=served.http) as client:
        file = {"format": "trialogue", "version": 1, "conversations": conversations}
        assert (await client.post("/conversations/import", json=file)).json()["imported"] == 4
    tab = await tabs.blank(timezone_id="UTC", locale="en")
    await tab.page.clock.set_fixed_time(noon)
    await tab.page.goto(f"{served.http}/")
    for name in days:
        await expect(tab.page.get_by_role("list", name=name)).to_have_text(name)
    headings = tab.page.get_by_role("navigation").get_by_role("heading", level=2)
    await expect(headings).to_have_text(list(days))


async def test_a_question_says_by_which_wire_it_was_asked(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    tab = await tabs.open(f"{served.http}/#demo")
    upstream.answer("Hello")
    async with httpx2.AsyncClient(base_url=served.http) as client:
        await client.post("/ask/demo", json={"prompt": "From a shell"})
    question = tab.page.locator("li.question")
    for _ in range(2):
        await expect(question).to_contain_text("From a shell")
        await expect(question).to_contain_text("asked over REST")
        await expect(tab.answers).to_have_text("Hello")
        await tab.page.reload()
    upstream.answer("Hello again")
    await tab.ask("From here")
    await expect(tab.answers.last).to_have_text("Hello again")
    await expect(question.last).not_to_contain_text("asked over")


async def test_a_turn_that_came_while_its_conversation_was_looked_for_is_shown(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    held: asyncio.Queue[partial[None]] = asyncio.Queue()

    def relay(browser: WebSocketRoute) -> None:
        def back(message: str | bytes) -> None:
            frame = json.loads(message)
            is_refusal = frame["type"] == "error" and frame["error"]["code"] == "not_found"
            send = partial(browser.send, message)
            held.put_nowait(send) if is_refusal else send()

        browser.connect_to_server().on_message(back)

    tab = await tabs.open(f"{served.http}/")
    await tab.page.route_web_socket("**/ws", relay)
    await tab.page.goto(f"{served.http}/#demo")
    await tab.page.reload()
    refusal = await held.get()
    upstream.answer("Hello")
    async with httpx2.AsyncClient(base_url=served.http) as client:
        await client.post("/ask/demo", json={"prompt": "From a shell"})
    await expect(links(tab)).to_have_text(["From a shell"])
    refusal()
    await expect(tab.answers).to_have_text("Hello")


async def test_a_turn_that_was_over_before_the_page_could_watch_is_shown(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    held: asyncio.Queue[partial[None]] = asyncio.Queue()

    def relay(browser: WebSocketRoute) -> None:
        def back(message: str | bytes) -> None:
            send = partial(browser.send, message)
            held.put_nowait(send) if json.loads(message)["type"] == "welcome" else send()

        browser.connect_to_server().on_message(back)

    tab = await tabs.open(f"{served.http}/")
    await tab.page.route_web_socket("**/ws", relay)
    async with tab.page.expect_response("**/conversations/demo/messages**"):
        await tab.page.goto(f"{served.http}/#demo")
        await tab.page.reload()
    welcome = await held.get()
    upstream.answer("Hello")
    async with httpx2.AsyncClient(base_url=served.http) as client:
        await client.post("/ask/demo", json={"prompt": "From a shell"})
    welcome()
    await expect(tab.answers).to_have_text("Hello")
    upstream.answer("Hello again")
    await tab.ask("From here")
    await expect(tab.answers).to_have_text(["Hello", "Hello again"])


async def test_the_line_is_seen_by_all_and_outlives_a_reload(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    first, second = [await tabs.open(f"{served.http}/#demo") for _ in range(2)]
    await first.ask("One")
    upstream.say("1")
    await expect(second.answers).to_have_text("1")
    await first.ask("Two")
    for one in (first, second):
        await expect(waiting(one).locator(".text")).to_have_text(["Two"])
    await second.page.reload()
    await expect(waiting(second).locator(".text")).to_have_text(["Two"])
    upstream.finish().answer("2")
    for one in (first, second):
        await expect(one.questions).to_have_text(["One", "Two"])
        await expect(one.answers).to_have_text(["1", "2"])
        await expect(waiting(one)).to_have_count(0)


async def test_a_waiting_question_is_taken_back_by_whom_it_is_seen(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    first, second = [await tabs.open(f"{served.http}/#demo") for _ in range(2)]
    await first.ask("One")
    upstream.say("1")
    await expect(second.answers).to_have_text("1")
    field = first.page.get_by_role("textbox", name="Your question")
    for tab, told in ((first, ""), (second, "This question was taken back.")):
        await first.ask("Two")
        await expect(waiting(second)).to_have_count(1)
        await waiting(tab).get_by_role("button", name="Withdraw").click()
        for one in (first, second):
            await expect(waiting(one)).to_have_count(0)
        await expect(field).to_have_value("Two")
        await expect(first.page.locator("#trouble")).to_have_text(told)
    upstream.finish()
    await first.is_busy(False)
    assert len(upstream.prompts) == 1

"""Conversations that are left while something of them is on its way, and pages that begin badly."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from tests.clients.web.proxy import Failing, Held, proxied
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

#: How many messages a long conversation has: three pages.
MANY = 230
#: Goes elsewhere and sends what is written, before the browser tells of the other address.
GO_AND_SEND = """() => {
    location.hash = "apples";
    document.querySelector("#composer").requestSubmit();
}"""
#: Begins a conversation, faster than the browser tells of it.
BEGIN_AND_SEND = """() => {
    document.querySelector("#new").click();
    document.querySelector("#prompt").value = "Lemons?";
    document.querySelector("#composer").requestSubmit();
}"""


async def talked(served: Served, upstream: Puppet, conversation_id: str, answer: str) -> None:
    upstream.answer(answer)
    question = Ask(f"{conversation_id.title()}?")
    turn = await served.conversations.ask(EVERYONE, conversation_id, question)
    await settled(served.conversations, turn.id)


async def imported(tab: Tab, served: Served, conversation_id: str, count: int) -> None:
    """Import a conversation of so many messages, and of no turn that would be told."""
    at = "2026-11-01T00:00:00Z"
    messages = [
        {
            "id": f"msg_{number}",
            "parent_id": f"msg_{number - 1}" if number else None,
            "role": ("user", "assistant")[number % 2],
            "content": f"Number {number}",
            "created_at": at,
        }
        for number in range(count)
    ]
    whole = {
        "id": conversation_id,
        "title": "",
        "head_id": messages[-1]["id"],
        "created_at": at,
        "updated_at": at,
        "messages": messages,
        "turns": [],
    }
    file = {"format": "trialogue", "version": 1, "conversations": [whole]}
    response = await tab.page.request.post(f"{served.http}/conversations/import", data=file)
    assert (await response.json())["imported"] == 1


async def long(tab: Tab, served: Served) -> None:
    """Open a conversation that is long."""
    await imported(tab, served, "long", MANY)
    await tab.page.goto(f"{served.http}/#long")
    await expect(tab.page.get_by_role("button", name="Earlier messages")).to_be_visible()


async def test_earlier_messages_stay_out_of_another_conversation(
    tab: Tab, served: Served, upstream: Puppet
) -> None:
    await talked(served, upstream, "pears", "Green")
    await long(tab, served)
    held = Held(tab.page)
    await held.hold("**/long/messages*before=*")
    await tab.page.get_by_role("button", name="Earlier messages").click()
    await held.reached()
    await tab.page.evaluate("location.hash = 'pears'")
    await expect(tab.answers).to_have_text("Green")
    await held.let_go()
    await expect(tab.page.locator("#messages li")).to_have_count(2)


async def test_earlier_messages_are_not_doubled_by_a_second_click(tab: Tab, served: Served) -> None:
    await long(tab, served)
    held = Held(tab.page)
    await held.hold("**/long/messages*before=*")
    for _ in range(2):
        await tab.page.get_by_role("button", name="Earlier messages").click()
        await held.reached()
    await held.let_go()
    await expect(tab.page.locator("#messages li")).to_have_count(200)


async def test_a_question_stays_out_of_another_conversation(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await talked(served, upstream, "apples", "Red")
    tab = await tabs.open(f"{served.http}/#apples")
    await imported(tab, served, "pears", 2)
    await expect(tab.answers).to_have_text("Red")
    held = Held(tab.page)
    await held.hold("**/apples/messages*leaf=*")
    upstream.say("Golden")
    await served.conversations.ask(EVERYONE, "apples", Ask("More apples?"))
    await held.reached()
    await tab.page.evaluate("location.hash = 'pears'")
    await expect(tab.answers).to_have_text("Number 1")
    await held.let_go()
    await expect(tab.questions).to_have_text(["Number 0"])
    await expect(tab.answers).to_have_text(["Number 1"])


async def test_a_draft_stays_with_its_conversation(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for name, answer in (("apples", "Red"), ("pears", "Green")):
        await talked(served, upstream, name, answer)
    tab = await tabs.blank()
    held = Held(tab.page)
    await held.hold("**/apples/messages*")
    await tab.page.goto(f"{served.http}/#apples")
    await held.reached()
    field = tab.page.get_by_role("textbox", name="Your question")
    await field.fill("A long draft")
    await held.let_go()
    await expect(tab.answers).to_have_text("Red")
    await expect(field).to_have_value("A long draft")
    await tab.page.get_by_role("link", name="Pears?").click()
    await expect(tab.answers).to_have_text("Green")
    await expect(field).to_be_empty()
    await tab.page.get_by_role("link", name="Apples?").click()
    await expect(field).to_have_value("A long draft")


@pytest.mark.parametrize("what", ["**/web/config.json", "**/conversations?*", "**/messages?*"])
async def test_what_could_not_be_read_at_first_is_read_again(
    tabs: Tabs, served: Served, upstream: Puppet, what: str
) -> None:
    await talked(served, upstream, "apples", "Red")
    tab = await tabs.blank()
    await tab.page.clock.install()
    await tab.page.route(what, Failing().take)
    await tab.page.goto(f"{served.http}/#apples")
    await expect(tab.page.locator("#trouble")).to_have_text("away")
    upstream.answer("Green")
    await tab.ask("Pears?")
    await tab.page.clock.fast_forward(3000)
    await expect(tab.answers).to_have_text(["Red", "Green"])
    await expect(tab.page.locator("#conversations a")).to_have_text("Apples?")
    await expect(tab.page.locator("#trouble")).to_be_hidden()
    tab.complaints.clear()  # Chromium mentions the 503


async def test_a_new_conversation_that_was_left_at_once_is_listed(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    proxy.freeze()
    await tab.ask("Apples?")
    await expect(tab.page.locator("li.waiting")).to_be_visible()
    await tab.page.get_by_role("button", name="New conversation").click()
    await expect(tab.questions).to_have_count(0)
    proxy.thaw()
    await expect(tab.page.locator("#conversations a")).to_have_text("Apples?")
    upstream.answer("Red")
    await tab.page.get_by_role("link", name="Apples?").click()
    await expect(tab.answers).to_have_text("Red")


async def test_a_refusal_is_told_where_the_conversation_was_left(
    tabs: Tabs, served: Served
) -> None:
    proxy, tab = await proxied(tabs, served)
    proxy.freeze()
    await tab.ask("Apples\x00?")
    await expect(tab.page.locator("li.waiting")).to_be_visible()
    await tab.page.get_by_role("button", name="New conversation").click()
    await expect(tab.questions).to_have_count(0)
    proxy.thaw()
    await expect(tab.page.locator("#trouble")).to_contain_text("was not asked")
    await tab.page.go_back()
    field = tab.page.get_by_role("textbox", name="Your question")
    await expect(field).to_have_value("Apples\x00?")


async def test_who_goes_elsewhere_arrives_though_a_question_is_sent_at_that_moment(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for name, answer in (("apples", "Red"), ("pears", "Green")):
        await talked(served, upstream, name, answer)
    tab = await tabs.open(f"{served.http}/#pears")
    await expect(tab.answers).to_have_text("Green")
    upstream.answer("Very green")
    await tab.page.fill("#prompt", "Really?")
    await tab.page.evaluate(GO_AND_SEND)
    await expect(tab.answers).to_have_text("Red")
    await expect(tab.page).to_have_url(f"{served.http}/#apples")
    await tab.page.get_by_role("link", name="Pears?").click()
    await expect(tab.answers).to_have_text(["Green", "Very green"])


async def test_what_is_asked_at_once_in_a_new_conversation_is_asked_there(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await talked(served, upstream, "apples", "Red")
    tab = await tabs.open(f"{served.http}/#apples")
    await expect(tab.answers).to_have_text("Red")
    upstream.answer("Yellow")
    await tab.page.evaluate(BEGIN_AND_SEND)
    await expect(tab.answers).to_have_text("Yellow")
    await expect(tab.page.locator("#conversations a")).to_have_text(["Lemons?", "Apples?"])
    await tab.page.go_back()
    await expect(tab.answers).to_have_text("Red")

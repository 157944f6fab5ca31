"""The browser client in a real Chromium, against a live server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import WebSocketRoute, expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from server.upstream.port import UpstreamFailedError
from storage.model import Status
from storage.sqlite.store import SQLiteStore
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import Served, serve

# One Chromium serves all tests here, so they share its event loop.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_an_answer_is_shown_while_it_is_written(
    tab: Tab, served: Served, upstream: Puppet
) -> None:
    await expect(tab.page.locator("#empty")).to_be_visible()
    await expect(tab.page.locator("#stop")).to_be_hidden()
    await tab.ask("Tell me a tale")
    upstream.say("Once ")
    await expect(tab.answers).to_have_text("Once ")
    await tab.is_busy(True)
    await expect(tab.page.locator("#announcement")).to_be_empty()
    upstream.say("upon a time").finish()
    await tab.is_busy(False)
    await expect(tab.answers).to_have_text("Once upon a time")
    await expect(tab.questions).to_have_text("Tell me a tale")
    await expect(tab.page.locator("#announcement")).to_have_text("Answer: Once upon a time")
    listed = tab.page.locator("#conversations a")
    await expect(listed).to_have_text("Tell me a tale")
    await expect(listed).to_have_attribute("aria-current", "page")
    await expect(tab.page).to_have_title("Tell me a tale – Trialogue")
    page = await served.conversations.page(EVERYONE)
    assert tab.page.url == f"{served.http}/#{page.items[0].id}"


async def test_whoever_has_it_open_reads_along(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    first = await tabs.open(f"{served.http}/#demo")
    second = await tabs.open(f"{served.http}/#demo")
    await expect(second.page.locator("#empty")).to_be_visible()
    await first.ask("From the first")
    upstream.say("To ")
    for one in (first, second):
        await expect(one.answers).to_have_text("To ")
        await expect(one.questions).to_have_text("From the first")
    upstream.say("both").finish().answer("Again")
    await second.is_busy(False)
    await served.conversations.ask(EVERYONE, "demo", Ask("From elsewhere"))
    for one in (first, second):
        await expect(one.questions).to_have_text(["From the first", "From elsewhere"])
        await expect(one.answers).to_have_text(["To both", "Again"])


async def test_history_is_shown_and_what_was_written_is_text(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    attack = '<img src="x" onerror="document.title = 1"> <script>document.title = 2</script>'
    code = f"Look:\n```html\n{attack}\n```\nThat is all."
    upstream.answer(code)
    turn = await served.conversations.ask(EVERYONE, "demo", Ask(attack))
    await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/#demo")
    await expect(tab.questions).to_have_text(attack)
    await expect(tab.page.locator("li.answer pre code")).to_have_text(attack)
    await expect(tab.answers).to_contain_text("That is all.")
    await expect(tab.page.locator("main img, main script")).to_have_count(0)


async def test_older_messages_are_fetched_when_they_are_wanted(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for number in range(51):
        upstream.answer(f"Answer {number}")
        turn = await served.conversations.ask(EVERYONE, "long", Ask(f"Question {number}"))
        await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/#long")
    await expect(tab.questions).to_have_count(50)
    await tab.page.click("#earlier")
    await expect(tab.questions).to_have_count(51)
    await expect(tab.questions.first).to_have_text("Question 0")
    await expect(tab.page.locator("#earlier")).to_be_hidden()


@pytest.mark.parametrize("how", ["button", "key"])
async def test_stop_ends_the_turn(tab: Tab, served: Served, upstream: Puppet, how: str) -> None:
    await tab.ask("Tell me a tale")
    upstream.say("Once ")
    await expect(tab.answers).to_have_text("Once ")
    if how == "button":
        await tab.page.click("#stop")
    else:
        await tab.page.keyboard.press("Escape")
    await tab.is_busy(False)
    await expect(tab.page.locator("li.answer .about")).to_contain_text("stopped")
    await expect(tab.page.locator("#stop")).to_be_hidden()
    messages = await served.conversations.messages(
        EVERYONE, (await served.conversations.page(EVERYONE)).items[0].id
    )
    turn = await served.conversations.turn(EVERYONE, str(messages.items[-1].turn_id))
    assert (turn.status, turn.answer) == (Status.CANCELLED, "Once ")


async def test_a_lost_connection_comes_back_and_nothing_is_lost(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    routes: list[WebSocketRoute] = []

    def pass_on(route: WebSocketRoute) -> None:
        routes.append(route)
        route.connect_to_server()

    tab = await tabs.blank()
    await tab.page.route_web_socket("ws://**/ws", pass_on)
    await tab.page.goto(f"{served.http}/")
    await tab.ask("Tell me a tale")
    upstream.say("Once ")
    await expect(tab.answers).to_have_text("Once ")
    await routes[-1].close(code=1012)
    upstream.say("upon ")
    await expect(tab.answers).to_have_text("Once upon ")
    await routes[-1].close(code=1012)
    upstream.say("a time").finish()
    await expect(tab.answers).to_have_text("Once upon a time")
    await tab.is_busy(False)
    upstream.answer("The end")
    await tab.ask("And then?")
    await expect(tab.answers).to_have_text(["Once upon a time", "The end"])
    assert len(routes) == 3


async def test_a_failure_and_a_refusal_are_shown(tab: Tab, upstream: Puppet) -> None:
    upstream.say("Half").fail(UpstreamFailedError("The upstream broke."))
    await tab.ask("Tell me a tale")
    await expect(tab.page.locator("li.answer.failed .about")).to_contain_text("The upstream broke.")
    await tab.ask("\x00")
    await expect(tab.page.locator("#trouble")).to_contain_text("NUL")
    await expect(tab.questions).to_have_count(1)
    upstream.answer("Whole")
    await tab.ask("Try again")
    await expect(tab.answers).to_have_text(["Half", "Whole"])
    await expect(tab.page.locator("#trouble")).to_be_hidden()


async def test_questions_sent_meanwhile_wait_for_their_turn(tab: Tab, upstream: Puppet) -> None:
    await tab.ask("First")
    upstream.say("One")
    await expect(tab.answers).to_have_text("One")
    await tab.ask("Second")
    await expect(tab.page.locator("li.waiting .text")).to_have_text("Second")
    upstream.finish().answer("Two")
    await expect(tab.answers).to_have_text(["One", "Two"])
    await expect(tab.questions).to_have_text(["First", "Second"])
    await expect(tab.page.locator("li.waiting")).to_have_count(0)


async def test_another_answer_takes_the_place_of_the_last(tab: Tab, upstream: Puppet) -> None:
    upstream.answer("One").answer("Two")
    await tab.ask("First")
    await expect(tab.answers).to_have_text("One")
    await tab.page.get_by_role("button", name="Regenerate").click()
    await expect(tab.answers).to_have_text("Two")
    await expect(tab.questions).to_have_count(1)


async def test_conversations_are_a_click_apart(tab: Tab, upstream: Puppet) -> None:
    for name in ("Apples", "Pears"):
        upstream.answer(f"About {name}")
        await tab.page.click("#new")
        await expect(tab.page.locator("#empty")).to_be_visible()
        await tab.ask(name)
        await expect(tab.answers).to_have_text(f"About {name}")
    await expect(tab.page.locator("#conversations a")).to_have_text(["Pears", "Apples"])
    await tab.page.click("#conversations a >> text=Apples")
    await expect(tab.answers).to_have_text("About Apples")
    await expect(tab.page.locator("#title")).to_have_text("Apples")


#: Renames the conversation that is shown, as another of its users would.
RENAME = """(title) => fetch(`/conversations/${location.hash.slice(1)}`, {
    method: "PATCH", headers: {"content-type": "application/json"}, body: JSON.stringify({title}),
})"""


async def test_a_click_is_not_lost_where_the_list_is_read_again(tab: Tab, upstream: Puppet) -> None:
    for name in ("Apples", "Pears"):
        upstream.answer(f"About {name}")
        await tab.page.click("#new")
        await tab.ask(name)
        await expect(tab.answers).to_have_text(f"About {name}")
    link = tab.page.locator("#conversations a >> text=Apples")
    await expect(tab.page.locator("#conversations a")).to_have_text(["Pears", "Apples"])
    await link.hover()
    await tab.page.mouse.down()
    await tab.page.evaluate(RENAME, "Plums")
    upstream.answer("More")
    await tab.ask("More of it")
    await expect(tab.page.locator("#conversations a")).to_have_text(["Plums", "Apples"])
    await expect(tab.answers).to_have_text(["About Pears", "More"])
    await tab.page.mouse.up()
    await expect(tab.answers).to_have_text("About Apples")


class TestBehindADoor:
    @pytest_asyncio.fixture(loop_scope="module")
    async def served(self, store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
        async with serve(store, upstream, auth=locked("ada:good")) as server:
            yield server

    async def test_a_server_that_wants_a_key_is_given_one(
        self, tab: Tab, served: Served, upstream: Puppet
    ) -> None:
        await tab.page.fill("#key", "bad")
        await tab.page.press("#key", "Enter")
        await expect(tab.page.locator("#door-reason")).to_contain_text("Incorrect API key")
        await tab.page.fill("#key", "good")
        await tab.page.click("#door button")
        await expect(tab.page.locator("#door")).to_be_hidden()
        upstream.answer("Hello")
        await tab.ask("x")
        await expect(tab.answers).to_have_text("Hello")
        assert (await served.conversations.page("ada")).items[0].title == "x"
        await tab.page.reload()
        await expect(tab.answers).to_have_text("Hello")


async def test_shift_and_enter_begin_a_line(tab: Tab) -> None:
    await tab.page.fill("#prompt", "one")
    await tab.page.press("#prompt", "Shift+Enter")
    await expect(tab.page.locator("#prompt")).to_have_value("one\n")
    await expect(tab.questions).to_have_count(0)


async def test_on_a_phone_enter_begins_a_line_and_conversations_open_from_the_side(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    size = {"width": 390, "height": 800}
    phone = await tabs.open(f"{served.http}/", viewport=size, has_touch=True, is_mobile=True)
    await phone.page.fill("#prompt", "one")
    await phone.page.press("#prompt", "Enter")
    await expect(phone.page.locator("#prompt")).to_have_value("one\n")
    upstream.answer("Hello")
    await phone.page.tap("#send")
    await expect(phone.answers).to_have_text("Hello")
    await expect(phone.page.locator("#sidebar")).to_be_hidden()
    await phone.page.tap("#menu")
    await phone.page.tap("#new")
    await expect(phone.page.locator("#sidebar")).to_be_hidden()
    await expect(phone.questions).to_have_count(0)
    wider = await phone.page.evaluate("document.documentElement.scrollWidth")
    assert wider <= size["width"]


async def test_it_is_dark_where_the_system_is(tabs: Tabs, served: Served) -> None:
    colours = []
    for scheme in ("light", "dark"):
        tab = await tabs.open(f"{served.http}/", color_scheme=scheme)
        colours.append(await tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 22, 29)"]

"""The page's list of conversations, as a person uses it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from storage.model import Role
from storage.sqlite.store import SQLiteStore
from tests.clients.web.proxy import caught_up
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import Served, serve

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


#: Notes which conversations' items are changed from now on; what only stands elsewhere is none.
TOUCHED = """window.touched = new Set();
    new MutationObserver((all) => {
        for (const { target } of all) {
            const item = target.parentElement.closest?.("li") ?? target.closest?.("li");
            if (item) touched.add(item.dataset.id);
        }
    }).observe(document.getElementById("conversations"),
        { attributes: true, childList: true, characterData: true, subtree: true })"""
#: Drops a file on the page, as a mouse would.
DROP = """(text) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([text], "dropped.json"));
    document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
}"""


async def test_a_long_title_stays_in_its_place(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="long", title="supercalifragilistic" * 10)
    tab = await tabs.open(f"{served.http}/")
    links = tab.page.get_by_role("navigation", name="Conversations").get_by_role("link")
    await expect(links.first).to_contain_text("supercali")
    inside = "bar => bar.scrollWidth <= bar.clientWidth"
    assert await tab.page.locator("#sidebar").evaluate(inside)
    phone = await tabs.open(f"{served.http}/#long", viewport={"width": 390, "height": 800})
    await expect(phone.page.locator("#title")).to_contain_text("supercali")
    assert await phone.page.locator("html").evaluate(inside)


async def test_what_becomes_of_one_conversation_touches_no_other(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for number in range(50):
        await served.conversations.create(EVERYONE, id=f"c{number}", title=f"Number {number}")
    tab = await tabs.open(f"{served.http}/#c7")
    links = tab.page.get_by_role("navigation", name="Conversations").get_by_role("link")
    await expect(links.filter(has_text="Number")).to_have_count(50)
    await caught_up(tab.page)
    await tab.page.evaluate(TOUCHED)
    upstream.answer("Hello")
    await tab.ask("Who?")
    await expect(tab.answers).to_have_text("Hello")
    await expect(links.first).to_have_text("Number 7")
    await served.conversations.update(EVERYONE, "c3", {"title": "Three"})
    await expect(links.filter(has_text="Three")).to_be_visible()
    assert set(await tab.page.evaluate("[...touched]")) <= {"c7", "c3"}


async def test_a_conversation_far_down_has_its_title_and_the_list_has_no_end(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for number in range(101):
        await served.conversations.create(EVERYONE, id=f"c{number}", title=f"Number {number}")
    tab = await tabs.open(f"{served.http}/#c0")
    await expect(tab.page.get_by_role("heading", name="Number 0")).to_be_visible()
    links = tab.page.get_by_role("navigation").get_by_role("listitem")
    await expect(links).to_have_count(50)
    await tab.page.get_by_role("button", name="Show more").scroll_into_view_if_needed()
    await expect(links).to_have_count(100)
    upstream.answer("Hello")
    await tab.page.get_by_role("button", name="New conversation").click()
    await tab.ask("One more")
    await expect(links.first).to_have_text("One more")
    await expect(links).to_have_count(101)
    await tab.page.get_by_role("button", name="Show more").scroll_into_view_if_needed()
    await expect(links).to_have_count(102)
    await expect(links.last).to_have_text("Number 0")


class TestBehindADoor:
    @pytest_asyncio.fixture(loop_scope="module")
    async def served(self, store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
        async with serve(store, upstream, auth=locked("ada:good")) as server:
            yield server

    async def test_escape_does_not_shut_the_door_for_good(self, tab: Tab, upstream: Puppet) -> None:
        door = tab.page.get_by_role("dialog", name="This server needs an API key")
        for _ in range(3):
            await expect(door).to_be_visible()
            await tab.page.keyboard.press("Escape")
        await door.get_by_role("textbox", name="API key").fill("good")
        await tab.page.keyboard.press("Enter")
        await expect(door).to_be_hidden()
        upstream.answer("Hello")
        await tab.ask("x")
        await expect(tab.answers).to_have_text("Hello")


async def test_the_conversation_shown_is_renamed(
    tab: Tab, served: Served, upstream: Puppet
) -> None:
    upstream.answer("Red")
    await tab.ask("Apples?")
    await expect(tab.answers).to_have_text("Red")
    await tab.page.get_by_role("button", name="Rename").click()
    field = tab.page.get_by_role("dialog", name="Rename").get_by_role("textbox", name="Title")
    await expect(field).to_have_value("Apples?")
    await field.fill("Fruit")
    await tab.page.get_by_role("button", name="Save").click()
    links = tab.page.get_by_role("navigation", name="Conversations").get_by_role("link")
    await expect(links.first).to_have_text("Fruit")
    await expect(tab.page.get_by_role("heading", name="Fruit")).to_be_visible()
    assert (await served.conversations.page(EVERYONE)).items[0].title == "Fruit"


async def test_what_is_deleted_can_be_had_back_for_a_while(tabs: Tabs, served: Served) -> None:
    for id_ in ("apples", "pears"):
        await served.conversations.create(EVERYONE, id=id_, title=id_.title())
    tab = await tabs.blank()
    await tab.page.clock.install()
    await tab.page.goto(f"{served.http}/#apples")
    links = tab.page.locator("#conversations li")
    delete = tab.page.get_by_role("button", name="Delete")
    await delete.click()
    await expect(links).to_have_text(["Pears", "Apples"])
    await expect(links.last).to_be_hidden()
    await tab.page.get_by_role("button", name="Undo").click()
    await expect(links.last).to_be_visible()
    await expect(tab.page.get_by_role("heading", name="Apples")).to_be_visible()
    await delete.click()
    async with tab.page.expect_response(lambda response: response.request.method == "DELETE"):
        await tab.page.clock.fast_forward(10_000)
    page = await served.conversations.page(EVERYONE)
    assert [item.id for item in page.items] == ["pears"]


async def test_what_is_deleted_and_opened_again_stays(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="apples", title="Apples")
    tab = await tabs.blank()
    methods: list[str] = []
    tab.page.on("request", lambda request: methods.append(request.method))
    await tab.page.clock.install()
    await tab.page.goto(f"{served.http}/#apples")
    await tab.page.get_by_role("button", name="Delete").click()
    await expect(tab.page.get_by_role("button", name="Undo")).to_be_visible()
    await expect(tab.page.locator("#empty")).to_be_visible()
    await tab.page.go_back()
    await expect(tab.page.get_by_role("heading", name="Apples")).to_be_visible()
    await tab.page.clock.fast_forward(10_000)
    await caught_up(tab.page)
    assert "DELETE" not in methods
    await expect(tab.page.get_by_role("button", name="Undo")).to_be_hidden()
    await expect(tab.page.locator("#conversations li")).to_be_visible()


async def test_a_conversation_with_the_id_of_one_that_was_deleted_is_listed(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await served.conversations.create(EVERYONE, id="apples", title="Apples")
    tab = await tabs.blank()
    await tab.page.clock.install()
    await tab.page.goto(f"{served.http}/#apples")
    await tab.page.get_by_role("button", name="Delete").click()
    async with tab.page.expect_response(lambda response: response.request.method == "DELETE"):
        await tab.page.clock.fast_forward(10_000)
    links = tab.page.locator("#conversations li")
    await expect(links).to_have_count(0)
    await served.conversations.create(EVERYONE, id="apples", title="More apples")
    upstream.answer("Green")
    await tab.ask("Pears?")
    await expect(links).to_have_text(["Pears?", "More apples"])
    await expect(links.last).to_be_visible()


async def test_the_link_of_what_is_shown_closes_the_list_of_a_phone(
    tabs: Tabs, served: Served
) -> None:
    await served.conversations.create(EVERYONE, id="apples", title="Apples")
    size = {"width": 390, "height": 800}
    phone = await tabs.open(f"{served.http}/#apples", viewport=size, has_touch=True, is_mobile=True)
    for name in ("Apples", "New conversation", "New conversation"):
        await phone.page.tap("#menu")
        await expect(phone.page.locator("#sidebar")).to_be_visible()
        await phone.page.locator("#sidebar").get_by_text(name).tap()
        await expect(phone.page.locator("#sidebar")).to_be_hidden()


async def test_what_was_deleted_is_gone_though_the_page_is_closed(
    tabs: Tabs, served: Served
) -> None:
    await served.conversations.create(EVERYONE, id="apples", title="Apples")
    tab = await tabs.open(f"{served.http}/#apples")
    await tab.page.get_by_role("button", name="Delete").click()
    await tab.page.reload()
    links = tab.page.get_by_role("navigation").get_by_role("listitem")
    await expect(tab.page.locator("#empty")).to_be_visible()
    await expect(links).to_have_count(0)
    assert (await served.conversations.page(EVERYONE)).items == ()


@pytest.mark.parametrize("key", ["Control+k", "/"])
async def test_a_message_is_found_and_opened_in_its_branch(
    tabs: Tabs, served: Served, upstream: Puppet, key: str
) -> None:
    for answer in ("A russet apple", "Yellow"):
        upstream.answer(answer)
    for parent in (None, "root"):
        question = Ask("Which?" if parent is None else "Lemons?", parent_id=parent)
        turn = await served.conversations.ask(EVERYONE, "demo", question)
        await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/")
    await expect(tab.page.locator("#empty")).to_be_visible()
    await tab.page.locator("body").press(key)
    found = tab.page.get_by_role("dialog", name="Search")
    await found.get_by_role("textbox", name="Search").fill("russet")
    await expect(found.get_by_role("option")).to_contain_text("A russet apple")
    await expect(found.locator("mark")).to_have_text("russet")
    await tab.page.keyboard.press("Enter")
    await expect(found).to_have_count(0)
    await expect(tab.questions).to_have_text("Which?")
    focused = tab.page.locator("li:focus")
    await expect(focused).to_contain_text("A russet apple")


async def test_enter_finds_what_was_just_typed_and_shows_a_message_again(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for answer in ("A russet apple", "Yellow"):
        upstream.answer(answer)
        turn = await served.conversations.ask(EVERYONE, "demo", Ask(f"{answer}?"))
        await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/")
    for _ in range(2):
        await tab.page.get_by_role("button", name="Search").click()
        found = tab.page.get_by_role("dialog", name="Search")
        await found.get_by_role("textbox", name="Search").fill("a russet apple")
        await tab.page.keyboard.press("Enter")
        await expect(found).to_have_count(0)
        focused = tab.page.locator("li:focus")
        await expect(focused).to_contain_text("russet")
        await focused.blur()


async def test_a_conversation_is_exported_and_a_file_is_imported_with_a_report(
    tabs: Tabs, served: Served, upstream: Puppet, tmp_path: Path
) -> None:
    upstream.answer("Red")
    turn = await served.conversations.ask(EVERYONE, "demo", Ask("Apples?"))
    await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/#demo")
    await tab.page.get_by_role("button", name="Export").click()
    async with tab.page.expect_download() as downloading:
        await tab.page.get_by_role("button", name="JSON, with every branch").click()
    file = tmp_path / (await downloading.value).suggested_filename
    await (await downloading.value).save_as(file)
    assert json.loads(file.read_bytes())["conversations"][0]["id"] == "demo"
    await served.conversations.delete(EVERYONE, "demo")
    await tab.page.locator("#files").set_input_files(file)
    report = tab.page.get_by_role("dialog", name="Import").get_by_role("status")
    await expect(report).to_have_text("Imported 1, unchanged 0, failed 0.")
    await tab.page.keyboard.press("Escape")
    await tab.page.evaluate(DROP, file.read_text())
    await expect(report).to_have_text("Imported 0, unchanged 1, failed 0.")
    assert (await served.conversations.get(EVERYONE, "demo")).title == "Apples?"


class TestASmallWindow:
    @pytest_asyncio.fixture(loop_scope="module")
    async def served(self, store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
        async with serve(store, upstream, model="gpt-4") as server:
            yield server

    async def test_a_summary_is_shown_with_what_it_stands_for_and_undone(
        self, tabs: Tabs, served: Served, store: SQLiteStore, upstream: Puppet
    ) -> None:
        for question in ("Apples?", "Pears?"):
            upstream.answer("Red")
            asked = Ask(question + " word" * 3_000)
            turn = await served.conversations.ask(EVERYONE, "demo", asked)
            await settled(served.conversations, turn.id)
        await served.conversations.update(EVERYONE, "demo", {"truncation": "summarize"})
        first = (await served.conversations.messages(EVERYONE, "demo")).items[1]
        made = replace(first, id="msg_summary", parent_id=first.id, role=Role.SYSTEM, turn_id=None)
        await store.summarise(EVERYONE, replace(made, content="They talked.", stands_for=2))
        tab = await tabs.open(f"{served.http}/#demo")
        await tab.page.get_by_role("textbox", name="Your question").fill("And" + " plum" * 2_000)
        await tab.page.get_by_role("button", name="Context").click()
        shown = tab.page.get_by_role("dialog", name="Context")
        yes = "yes: summary of 2 messages"
        await expect(shown.get_by_role("row")).to_contain_text(
            ["Tokens", yes, "no: summarised", "no: summarised", "Pears?", "Red", "And"]
        )
        await shown.get_by_role("button", name="Undo summary").click()
        await expect(shown.get_by_role("row")).to_contain_text(
            ["Tokens", "no: over the budget", "no: over the budget", "Pears?", "Red", "And"]
        )
        await expect(shown.get_by_role("button", name="Undo summary")).to_have_count(0)
        assert (await served.conversations.get(EVERYONE, "demo")).truncation == "trim"


async def test_the_meter_shows_what_would_be_sent(tab: Tab, upstream: Puppet) -> None:
    upstream.answer("Red")
    await tab.ask("Apples?")
    meter = tab.page.get_by_role("button", name="Context")
    await expect(meter).to_have_text("1 %")
    await tab.page.get_by_role("textbox", name="Your question").fill("And pears?")
    await meter.click()
    told = tab.page.get_by_role("dialog", name="Context")
    await expect(told.get_by_role("row")).to_contain_text(
        ["Tokens", "user: Apples?", "assistant: Red", "user: And pears?"]
    )
    await expect(told).to_contain_text("3 messages")

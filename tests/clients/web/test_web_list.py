"""The page's list of conversations, as a person uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import expect

from server.core.access.auth import EVERYONE
from storage.sqlite.store import SQLiteStore
from tests.clients.web.tabs import Tab, Tabs
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import Served, serve

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_a_long_title_stays_in_its_place(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="long", title="supercalifragilistic" * 10)
    tab = await tabs.open(f"{served.http}/")
    links = tab.page.get_by_role("navigation", name="Conversations").get_by_role("link")
    await expect(links.first).to_contain_text("supercali")
    inside = "bar => bar.scrollWidth <= bar.clientWidth"
    assert await tab.page.locator("#sidebar").evaluate(inside)


async def test_a_conversation_far_down_has_its_title_and_more_stays_more(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for number in range(101):
        await served.conversations.create(EVERYONE, id=f"c{number}", title=f"Number {number}")
    tab = await tabs.open(f"{served.http}/#c0")
    await expect(tab.page.get_by_role("heading", name="Number 0")).to_be_visible()
    links = tab.page.get_by_role("navigation").get_by_role("listitem")
    await expect(links).to_have_count(50)
    await tab.page.get_by_role("button", name="Show more").click()
    await expect(links).to_have_count(100)
    upstream.answer("Hello")
    await tab.page.get_by_role("button", name="New conversation").click()
    await tab.ask("One more")
    await expect(links.first).to_have_text("One more")
    await expect(links).to_have_count(101)
    await tab.page.get_by_role("button", name="Show more").click()
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

"""A connection of the page that is cut in silence, as proxies and mobile networks do it."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.clients.web.proxy import proxied
from tests.clients.web.tabs import Tabs
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

#: What makes a page doubt its connection: nothing heard for long, or news of the network.
DOUBT = {
    "silence": "0",
    "online": "dispatchEvent(new Event('online'))",
    "looked at": "document.dispatchEvent(new Event('visibilitychange'))",
}


@pytest.mark.parametrize("doubt", DOUBT)
async def test_a_silent_cut_is_noticed_and_nothing_is_lost_or_doubled(
    tabs: Tabs, served: Served, upstream: Puppet, doubt: str
) -> None:
    proxy, tab = await proxied(tabs, served)
    await tab.ask("Tell me a tale")
    upstream.say("Once ")
    await expect(tab.answers).to_have_text("Once ")
    proxy.freeze()
    upstream.say("upon ")
    await doubted(tab.page, doubt)
    await expect(tab.page.get_by_role("status").first).to_contain_text("Reconnecting")
    upstream.say("a time").finish()
    for _ in range(4):
        await tab.page.clock.fast_forward(15_000)
    proxy.thaw()
    await expect(tab.answers).to_have_text("Once upon a time")
    await tab.is_busy(False)
    await expect(tab.page.get_by_role("status").first).to_be_empty()
    await expect(tab.questions).to_have_text("Tell me a tale")
    assert len(upstream.prompts) == 1
    assert proxy.connections > 1


async def test_a_quiet_connection_that_lives_is_left_alone(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    upstream.answer("One").answer("Two")
    await tab.ask("First")
    await tab.is_busy(False)
    for _ in range(3):
        await tab.page.clock.fast_forward(15_000)
        await proxy.pongs.get()
    await tab.ask("Second")
    await expect(tab.answers).to_have_text(["One", "Two"])
    assert proxy.connections == 1


async def test_stop_is_heard_though_the_connection_was_lost(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    await tab.ask("Tell me a tale")
    upstream.say("Once ")
    await expect(tab.answers).to_have_text("Once ")
    await stand_still(tab.page)
    await proxy.cut()
    await expect(tab.page.get_by_role("status").first).to_contain_text("Reconnecting")
    await tab.page.get_by_role("button", name="Stop").click()
    await tab.page.clock.fast_forward(1000)
    await tab.is_busy(False)
    await expect(tab.page.locator("li.answer .about")).to_contain_text("stopped")


async def test_another_answer_is_asked_for_though_the_connection_was_lost(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    upstream.answer("One").answer("Two")
    await tab.ask("First")
    await expect(tab.answers).to_have_text("One")
    await tab.is_busy(False)
    await stand_still(tab.page)
    await proxy.cut()
    await expect(tab.page.get_by_role("status").first).to_contain_text("Reconnecting")
    await tab.page.get_by_role("button", name="Regenerate").click()
    await tab.page.clock.fast_forward(1000)
    await expect(tab.answers).to_have_text("Two")


async def test_what_must_not_be_done_twice_and_was_perhaps_heard_is_told(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    upstream.answer("One")
    await tab.ask("First")
    await expect(tab.answers).to_have_text("One")
    await tab.is_busy(False)
    proxy.freeze()
    await tab.page.get_by_role("button", name="Regenerate").click()
    await stand_still(tab.page)
    await proxy.cut()
    await expect(tab.page.get_by_role("status").first).to_contain_text("Reconnecting")
    await tab.page.clock.fast_forward(1000)
    await expect(tab.page.locator("#trouble")).to_contain_text("The connection was lost")
    assert len(upstream.prompts) == 1


async def stand_still(page: Page) -> None:
    """Let time stand still on a page: no pause of it ends by itself."""
    await page.clock.pause_at(await page.evaluate("Date.now() + 100"))


async def doubted(page: Page, doubt: str) -> None:
    """Let the page ask whether its connection lives, and get no answer."""
    await page.evaluate(DOUBT[doubt])
    if doubt == "silence":
        await page.clock.fast_forward(15_000)
    await page.clock.fast_forward(5000)

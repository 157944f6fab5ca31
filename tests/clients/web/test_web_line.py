"""A connection of the page that is cut in silence, as proxies and mobile networks do it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from playwright.async_api import Page, WebSocketRoute, expect

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


class FreezingProxy:
    """Passes messages on; `freeze` holds all of them back and closes nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.pongs: asyncio.Queue[None] = asyncio.Queue()
        self._held: list[Callable[[], None]] | None = None

    def take(self, route: WebSocketRoute) -> None:
        self.connections += 1
        server = route.connect_to_server()
        route.on_message(lambda message: self._pass(lambda: server.send(message)))
        server.on_message(lambda message: self._back(route, message))

    def freeze(self) -> None:
        self._held = []

    def thaw(self) -> None:
        held, self._held = self._held or [], None
        for send in held:
            send()

    def _back(self, route: WebSocketRoute, message: str | bytes) -> None:
        self._pass(lambda: route.send(message))
        if '"pong"' in str(message):
            self.pongs.put_nowait(None)

    def _pass(self, send: Callable[[], None]) -> None:
        if self._held is None:
            send()
        else:
            self._held.append(send)


@pytest.mark.parametrize("doubt", DOUBT)
async def test_a_silent_cut_is_noticed_and_nothing_is_lost_or_doubled(
    tabs: Tabs, served: Served, upstream: Puppet, doubt: str
) -> None:
    proxy, tab = FreezingProxy(), await tabs.blank()
    await tab.page.clock.install()
    await tab.page.route_web_socket("ws://**/ws", proxy.take)
    await tab.page.goto(f"{served.http}/")
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
    proxy, tab = FreezingProxy(), await tabs.blank()
    await tab.page.clock.install()
    await tab.page.route_web_socket("ws://**/ws", proxy.take)
    await tab.page.goto(f"{served.http}/")
    upstream.answer("One").answer("Two")
    await tab.ask("First")
    await tab.is_busy(False)
    for _ in range(3):
        await tab.page.clock.fast_forward(15_000)
        await proxy.pongs.get()
    await tab.ask("Second")
    await expect(tab.answers).to_have_text(["One", "Two"])
    assert proxy.connections == 1


async def doubted(page: Page, doubt: str) -> None:
    """Let the page ask whether its connection lives, and get no answer."""
    await page.evaluate(DOUBT[doubt])
    if doubt == "silence":
        await page.clock.fast_forward(15_000)
    await page.clock.fast_forward(5000)

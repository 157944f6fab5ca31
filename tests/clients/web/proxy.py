"""What stands between a page and its server: frames that are held back, and answers that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from playwright.async_api import Page, Route, WebSocketRoute

from tests.clients.web.tabs import Tab, Tabs
from tests.support.live import Served


class FreezingProxy:
    """Passes messages on; `freeze` holds all of them back and closes nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.pongs: asyncio.Queue[None] = asyncio.Queue()
        self._route: WebSocketRoute | None = None
        self._held: list[Callable[[], None]] | None = None

    def take(self, route: WebSocketRoute) -> None:
        self.connections += 1
        self._route = route
        server = route.connect_to_server()
        route.on_message(lambda message: self._pass(lambda: server.send(message)))
        server.on_message(lambda message: self._back(route, message))

    def freeze(self) -> None:
        self._held = []

    def thaw(self) -> None:
        held, self._held = self._held or [], None
        for send in held:
            send()

    async def cut(self) -> None:
        """Close the connection; what was held back is lost."""
        assert self._route is not None
        self._held = None
        await self._route.close(code=1012)

    def _back(self, route: WebSocketRoute, message: str | bytes) -> None:
        self._pass(lambda: route.send(message))
        if '"pong"' in str(message):
            self.pongs.put_nowait(None)

    def _pass(self, send: Callable[[], None]) -> None:
        if self._held is None:
            send()
        else:
            self._held.append(send)


async def proxied(tabs: Tabs, served: Served) -> tuple[FreezingProxy, Tab]:
    """Open a new conversation behind a proxy, in a tab whose clock can be moved."""
    proxy, tab = FreezingProxy(), await tabs.blank()
    await tab.page.clock.install()
    await tab.page.route_web_socket("ws://**/ws", proxy.take)
    await tab.page.goto(f"{served.http}/")
    return proxy, tab


class Held:
    """Answers to a page's requests that wait until they are let go."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._reached: asyncio.Queue[None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._left = 0

    async def hold(self, pattern: str) -> None:
        await self._page.route(pattern, self._take)

    async def reached(self) -> None:
        """Wait until one more answer waits."""
        await self._reached.get()
        self._left += 1

    async def let_go(self) -> None:
        """Let all answers go, and wait until the page has read them."""
        self._gone.set()
        for _ in range(self._left):
            await self._reached.get()
        await caught_up(self._page)

    async def _take(self, route: Route) -> None:
        response = await route.fetch()
        self._reached.put_nowait(None)
        await self._gone.wait()
        await route.fulfill(response=response)
        self._reached.put_nowait(None)


class Failing:
    """A server that is away for the first request of a kind."""

    def __init__(self) -> None:
        self._away = True

    async def take(self, route: Route) -> None:
        if self._away:
            self._away = False
            await route.fulfill(status=503, body='{"error": {"message": "away"}}')
        else:
            await route.continue_()


async def caught_up(page: Page) -> None:
    """Wait until a page has done what it had to do before an answer that comes now."""
    await page.evaluate("fetch('/web/config.json').then((response) => response.json())")

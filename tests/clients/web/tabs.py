"""Tabs of a browser, as a person has them before them."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, expect

from server.core.access.auth import EVERYONE
from server.core.conversations import Conversations

#: What Chromium mentions though the page does as it should: the 404 of a conversation that nobody
#: has begun, and a 401; and an attempt to connect that the page's clock has called too long.
EXPECTED = (
    "the server responded with a status of 40",
    "WebSocket is closed before the connection is established",
)


class Tab:
    """A tab of the browser; what it complains about is an error of the page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(
            one in message.text for one in EXPECTED
        ):
            self.complaints.append(message.text)

    @property
    def answers(self) -> Any:
        return self.page.locator("li.answer .text")

    @property
    def questions(self) -> Any:
        return self.page.locator("li.question .text")

    async def ask(self, prompt: str) -> None:
        await self.page.fill("#prompt", prompt)
        await self.page.press("#prompt", "Enter")

    async def is_busy(self, busy: bool) -> None:
        expected = "true" if busy else "false"
        await expect(self.page.locator("#messages")).to_have_attribute("aria-busy", expected)


class Tabs:
    """Opens tabs, each of a stranger to the others."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._opened: list[Tab] = []

    async def open(self, url: str, **options: Any) -> Tab:
        tab = await self.blank(**options)
        await tab.page.goto(url)
        return tab

    async def blank(self, **options: Any) -> Tab:
        context = await self._browser.new_context(**options)
        tab = Tab(await context.new_page())
        self._opened.append(tab)
        return tab

    async def close(self) -> list[str]:
        """Close all tabs and return what they complained about."""
        for tab in self._opened:
            # An answer that a test held back, and that nobody needs any more, would fail the next.
            await tab.page.unroute_all(behavior="ignoreErrors")
            await tab.page.context.close()
        return [complaint for tab in self._opened for complaint in tab.complaints]


async def settled(conversations: Conversations, turn_id: str) -> None:
    """Wait for the end of a turn."""
    async for _ in conversations.follow(EVERYONE, turn_id):
        pass

"""The page below a path of a reverse proxy's, on one port and over TLS."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.clients.web.libraries import needed
from tests.clients.web.tabs import Tabs
from tests.support.reverse_proxies import FRONTS, Front, fronted

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

KEY = "sk-ada"


@pytest.mark.parametrize("front", [one for one in FRONTS if one.values[0].prefix])
async def test_all_of_the_page_is_below_the_prefix(
    tabs: Tabs, tmp_path: Path, front: Front
) -> None:
    needed()
    async with fronted(front, tmp_path, f"ada:{KEY}") as there:
        tab = await tabs.blank(ignore_https_errors=True)
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.page.goto(f"{there.address}/")
        await tab.page.get_by_role("textbox", name="API key").fill(KEY)
        await tab.page.get_by_role("button", name="Enter", exact=True).click()
        await tab.ask("Hello")
        await expect(tab.answers).to_have_count(1)
        await tab.is_busy(False)
        await expect(tab.answers.locator(".prose.markdown")).to_have_count(1)
        conversations = tab.page.get_by_role("navigation", name="Conversations")
        await expect(conversations.get_by_role("link", name="Hello")).to_be_visible()

        await tab.page.get_by_role("button", name="Open elsewhere").click()
        shown = await tab.page.locator("dialog .code pre").all_inner_texts()
        assert shown[0] == tab.page.url
        assert f"curl {there.address}/ask/" in shown[1]
        assert f'"{there.address}/ask/' in shown[2]
        assert f"--url https://chat.example:{there.port}" in shown[3]
        assert f"curl {there.address}/v1/chat/completions" in shown[4]
        await tab.page.keyboard.press("Escape")

        await tab.page.reload()
        await expect(tab.answers).to_have_count(1)
        await tab.page.get_by_role("link", name="API", exact=True).click()
        await expect(tab.page.get_by_role("heading", name="Trialogue")).to_be_visible()
        await expect(tab.page.locator(".servers option, .servers .url")).to_have_text(
            re.compile(front.prefix)
        )
        ours = f"{there.address}/"
        assert [one for one in asked if not one.startswith((ours, "data:"))] == []

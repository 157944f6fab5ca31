"""The page as an application of its own: what browsers need to install it."""

from __future__ import annotations

import json
import struct

import pytest
from playwright.async_api import expect

from tests.clients.web.tabs import Tabs
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_a_browser_offers_to_install_it(tabs: Tabs, served: Served) -> None:
    tab = await tabs.blank()
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.page.goto(f"{served.http}/#demo")
    await expect(tab.page.get_by_role("button", name="Send")).to_be_visible()
    chromium = await tab.page.context.new_cdp_session(tab.page)
    manifest = await chromium.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["url"] == f"{served.http}/web/manifest.webmanifest"
    missing = (await chromium.send("Page.getInstallabilityErrors"))["installabilityErrors"]
    # A tab of a test is of a window that forgets.
    assert {one["errorId"] for one in missing} <= {"in-incognito"}
    app_id = await chromium.send("Page.getAppId")
    assert app_id["appId"] == f"{served.http}/"
    assert [one for one in asked if not one.startswith((f"{served.http}/", "data:"))] == []


async def test_what_it_begins_with_is_the_page_and_its_icons_are_as_told(
    tabs: Tabs, served: Served
) -> None:
    tab = await tabs.open(f"{served.http}/")
    address = await tab.page.evaluate("document.querySelector('link[rel=manifest]').href")
    get = tab.page.context.request.get
    answer = await get(address)
    assert answer.headers["content-type"] == "application/manifest+json"
    told = json.loads(await answer.text())
    whole = await tab.page.evaluate(
        "([address, paths]) => paths.map((one) => new URL(one, address).href)",
        [address, [told["start_url"], told["scope"], *(one["src"] for one in told["icons"])]],
    )
    assert whole[:2] == [f"{served.http}/", f"{served.http}/"]
    apple = await tab.page.evaluate("document.querySelector('link[rel=apple-touch-icon]').href")
    icons = [*zip(whole[2:], told["icons"], strict=True)]
    for icon, said in [*icons, (apple, {"sizes": "180x180", "type": "image/png"})]:
        answer = await get(icon)
        assert (answer.status, answer.headers["content-type"]) == (200, said["type"])
        if said["type"] == "image/png":
            width, height = struct.unpack(">II", (await answer.body())[16:24])
            assert f"{width}x{height}" == said["sizes"]
    assert {said.get("purpose", "any") for _, said in icons} == {"any", "maskable"}

"""The QR code of `Open elsewhere`: read as a camera would, from what is seen."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Locator, expect

from server.core.access.auth import EVERYONE
from tests.clients.web.libraries import LIBRARIES, needed
from tests.clients.web.tabs import Tab, Tabs
from tests.support.live import Served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("libraries"),
]

#: Returns the dots of a picture, as a camera has them.
SEEN = """async (png) => {
    const picture = new Image();
    picture.src = `data:image/png;base64,${png}`;
    await picture.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [picture.width, picture.height];
    const drawn = canvas.getContext("2d");
    drawn.drawImage(picture, 0, 0);
    const { width, height, data } = drawn.getImageData(0, 0, picture.width, picture.height);
    return { width, height, data: [...data] };
}"""
READ = """
import decodeQR from "./qr/decode.js";
let told = "";
for await (const piece of process.stdin) told += piece;
const { width, height, data } = JSON.parse(told);
console.log(decodeQR({ width, height, data: Uint8Array.from(data) }));
"""


@pytest.fixture(scope="module")
def libraries() -> None:
    needed()


async def dialog_of(tab: Tab) -> Locator:
    await tab.page.get_by_role("button", name="Open elsewhere").click()
    dialog = tab.page.get_by_role("dialog", name="Open elsewhere")
    await expect(dialog).to_be_visible()
    return dialog


async def read(tab: Tab, code: Locator) -> str:
    """Return what a picture of the code says."""
    png: str = await tab.page.evaluate(
        "(bytes) => btoa(String.fromCharCode(...bytes))", list(await code.screenshot())
    )
    seen: Any = await tab.page.evaluate(SEEN, png)
    words = ("node", "--input-type=module", "-e", READ)
    node = await asyncio.create_subprocess_exec(*words, cwd=LIBRARIES, stdin=PIPE, stdout=PIPE)
    told, _ = await node.communicate(json.dumps(seen).encode())
    assert node.returncode == 0
    return told.decode().removesuffix("\n")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["demo", "a:b.c~d", "n" * 128])
async def test_a_camera_reads_the_address(
    tabs: Tabs, served: Served, scheme: str, name: str
) -> None:
    await served.conversations.create(EVERYONE, id=name)
    tab = await tabs.blank(color_scheme=scheme)
    await tab.page.goto(f"{served.http}/#{quote(name, safe='')}")
    dialog = await dialog_of(tab)
    code = dialog.get_by_role("img", name="QR code of the address")
    await expect(code).to_be_visible()
    address = await dialog.locator(".code pre").first.inner_text()
    assert address == await tab.page.evaluate("location.href")
    assert await read(tab, code) == address
    await expect(dialog.get_by_text("No other device reaches this address")).to_be_visible()


async def test_without_the_library_the_address_is_there(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="demo")
    tab = await tabs.blank()
    await tab.page.route("**/vendor/*/qr.js", lambda route: route.fulfill(status=404))
    await tab.page.goto(f"{served.http}/#demo")
    dialog = await dialog_of(tab)
    await expect(dialog.locator(".code pre").first).to_have_text(f"{served.http}/#demo")
    await expect(dialog.get_by_role("img")).to_have_count(0)


async def test_a_phone_shows_all_of_it(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="demo")
    tab = await tabs.blank(viewport={"width": 320, "height": 640})
    await tab.page.goto(f"{served.http}/#demo")
    await tab.page.get_by_role("button", name="Actions").click()
    dialog = await dialog_of(tab)
    box = await dialog.get_by_role("img", name="QR code of the address").bounding_box()
    assert box is not None
    assert 0 <= box["x"] < box["x"] + box["width"] <= 320
    wide = await tab.page.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= 320

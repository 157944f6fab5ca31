"""The page below a path of a reverse proxy's, on one port and over TLS."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.clients.web.libraries import needed
from tests.clients.web.tabs import Tabs
from tests.support.live import Fork
from tests.support.reverse_proxies import KEY, PREFIXED, Front, fronted

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

#: What a page of another origin tries; a server of ours is at the address.
TRIES = """async (address) => {
  const forged = { "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "//evil.example" };
  const ask = { method: "POST", body: '{"prompt": "Hi"}' };
  const tried = (path, options) =>
    fetch(address + path, options).then((answer) => answer.text(), () => "refused");
  const watch = new Promise((told) => {
    const socket = new WebSocket(`${address.replace("http", "ws")}/ws`);
    socket.onmessage = ({ data }) => told(data);
    socket.onclose = () => told("refused");
  });
  return {
    read: await tried("/conversations"),
    forged: await tried("/conversations", { headers: forged }),
    ask: await tried("/ask/evil", { ...ask, headers: { "Content-Type": "application/json" } }),
    simple: await tried("/ask/evil", ask),
    watch: await watch,
  };
}"""


@pytest.mark.parametrize("front", PREFIXED)
async def test_all_of_the_page_is_below_the_prefix(
    tabs: Tabs, tmp_path: Path, front: Front
) -> None:
    needed()
    async with fronted(front, tmp_path) as there:
        tab = await tabs.blank(ignore_https_errors=True)
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.page.goto(f"{there.address}/")
        await tab.page.get_by_role("textbox", name="API key").fill(KEY)
        await tab.page.get_by_role("button", name="Enter", exact=True).click()
        await tab.ask("Hello")
        await expect(tab.answers).to_have_count(1)
        await tab.is_busy(False)
        await expect(tab.page.locator("li.answer .text.markdown")).to_have_count(1)
        conversations = tab.page.get_by_role("navigation", name="Conversations")
        await expect(conversations.get_by_role("link", name="Hello")).to_be_visible()

        await tab.page.get_by_role("button", name="Open elsewhere").click()
        shown = await tab.page.locator("dialog .code pre").all_inner_texts()
        assert shown[0] == tab.page.url
        assert f"curl {there.address}/ask/" in shown[1]
        assert f'"{there.address}/ask/' in shown[2]
        assert f"--url https://chat.example:{there.port}" in shown[3]
        assert f"curl {there.address}/v1/chat/completions" in shown[4]
        await expect(tab.page.get_by_role("img", name="QR code of the address")).to_be_visible()
        await tab.page.keyboard.press("Escape")

        await tab.page.reload()
        await expect(tab.answers).to_have_count(1)
        chromium = await tab.page.context.new_cdp_session(tab.page)
        assert (await chromium.send("Page.getAppId"))["appId"] == f"{there.address}/"

        await tab.page.get_by_role("link", name="API", exact=True).click()
        await expect(tab.page.get_by_role("heading", name="Trialogue")).to_be_visible()
        await expect(tab.page.locator(".servers option, .servers .url")).to_have_text(
            re.compile(front.prefix)
        )
        ours = f"{there.address}/"
        assert [one for one in asked if not one.startswith((ours, "data:"))] == []


@asynccontextmanager
async def foreign_page() -> AsyncIterator[str]:
    """Serve a page that is not ours, and forbids itself nothing; yield where."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\nHi")
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_foreign_page_reaches_nothing_below_the_prefix(
    tabs: Tabs, tmp_path: Path, *, allowed: bool
) -> None:
    """Neither by headers that only proxies may send, nor by a websocket."""
    async with foreign_page() as page:
        env = {"TRIALOGUE_ROOT_PATH": "/chat", "TRIALOGUE_ALLOWED_ORIGINS": page if allowed else ""}
        async with Fork(tmp_path, env=env) as server:
            tab = await tabs.blank()
            await tab.page.goto(page)
            tried = await tab.page.evaluate(TRIES, f"{server.http}/chat")
            tab.complaints.clear()  # one for each that was refused
            reached = {name for name, said in tried.items() if said != "refused"}
            # A name that is not ours is refused to whomever.
            assert reached == (set(tried) - {"forged"} if allowed else set())
            listed = await tab.page.context.request.get(f"{server.http}/chat/conversations")
            assert len((await listed.json())["data"]) == allowed

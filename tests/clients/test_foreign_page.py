"""What a web page of another origin can do to a server on this machine: nothing, in Chromium."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, async_playwright
from structlog.testing import capture_logs

from server.core.access.auth import EVERYONE
from storage.sqlite.store import SQLiteStore
from tests.clients.browser import ARGUMENTS, chromium
from tests.support.fakes import Puppet
from tests.support.live import Served, serve

# One Chromium serves all tests here, so they share its event loop.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

#: A name that leads to this machine, as a rebound one does.
EVIL = "evil.example"
BLANK = b"<!doctype html><title>evil</title>"
SECRET = "nobody else's to read"
PROMPT = '{"prompt": "Hello", "stream": true}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium(),
            args=[
                *ARGUMENTS,
                f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
                # Not every browser keeps pages from the machine that they run on.
                "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
            ],
            env={**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))},
        )
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> Puppet:
    return Puppet()


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path: Path, upstream: Puppet) -> AsyncIterator[Served]:
    """A server that lets everybody in who is on this machine, and has a secret."""
    async with SQLiteStore(tmp_path / "history.db") as store, serve(store, upstream) as server:
        await server.conversations.create(EVERYONE, id="mine", title=SECRET)
        yield server


async def _blank(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer any request with an empty page."""
    await reader.readuntil(b"\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n" % len(BLANK)
    writer.write(head + b"connection: close\r\n\r\n" + BLANK)
    await writer.drain()
    writer.close()


@pytest_asyncio.fixture(loop_scope="module", params=[EVIL, "127.0.0.1"])
async def page(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page of another site, and one of another port of this machine."""
    async with await asyncio.start_server(_blank, "127.0.0.1", 0) as elsewhere:
        port = elsewhere.sockets[0].getsockname()[1]
        context = await browser.new_context()
        opened = await context.new_page()
        await opened.goto(f"http://{request.param}:{port}/")
        yield opened
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rebound(browser: Browser, served: Served) -> AsyncIterator[Page]:
    """A page whose name now leads to our server: to the browser, we are its own origin."""
    port = served.http.rpartition(":")[2]
    context = await browser.new_context()
    opened = await context.new_page()
    address = f"http://{EVIL}:{port}/"

    async def evil(route: Route) -> None:
        await route.fulfill(status=200, content_type="text/html", body=BLANK.decode())

    await opened.route(address, evil)
    await opened.goto(address)
    await opened.unroute(address)
    yield opened
    await context.close()


async def unharmed(served: Served, upstream: Puppet) -> None:
    """Make sure that nothing was asked, made, changed or deleted."""
    found = await served.conversations.page(EVERYONE)
    assert [(one.id, one.title) for one in found.items] == [("mine", SECRET)]
    assert upstream.prompts == []


FETCH = """async ([url, options]) => {
  try {
    const response = await fetch(url, options);
    return [response.type, response.status, await response.text()];
  } catch (error) { return [error.name, 0, ""]; }
}"""
SOCKET = """(url) => new Promise((done) => {
  const heard = [];
  const socket = new WebSocket(url);
  socket.onopen = () => socket.send('{"type": "ask", "conversation_id": "evil", "prompt": "Hi"}');
  socket.onmessage = (event) => heard.push(event.data);
  socket.onclose = (event) => done([event.code, heard]);
})"""
#: Sends a form whose one field, as text/plain, is JSON; the answer is shown in a frame.
FORM = """([url, kind]) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.name = "answer";
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: url, enctype: kind, target: "answer" });
  const field = document.createElement("input");
  Object.assign(field, { name: '{"prompt": "Hi", "content": null, "x', value: '": 1}' });
  form.append(field);
  document.body.append(frame, form);
  frame.onload = () => {
    let text = null;
    try { text = frame.contentDocument && frame.contentDocument.body.textContent; } catch {}
    done(text);
  };
  form.submit();
})"""
LOAD = """([tag, url]) => new Promise((done) => {
  const element = document.createElement(tag);
  element.onload = () => done("loaded");
  element.onerror = () => done("error");
  if (tag === "link") { element.rel = "stylesheet"; element.href = url; } else element.src = url;
  document.body.append(element);
})"""
FRAME = """(url) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.src = url;
  frame.onload = () => {
    try { done(frame.contentDocument && frame.contentDocument.body.textContent); }
    catch { done(null); }
  };
  document.body.append(frame);
})"""
#: Runs a fetch in a frame whose origin is "null".
SANDBOX = """([url, options]) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = `<script>
    const [url, options] = ${JSON.stringify([url, options])};
    fetch(url, options).then((r) => r.text()).then(
      (text) => parent.postMessage(text, "*"), (error) => parent.postMessage(error.name, "*"));
  </script>`;
  addEventListener("message", (event) => done(event.data));
  document.body.append(frame);
})"""
SIMPLE = ["text/plain", "application/x-www-form-urlencoded"]


class TestAnotherOrigin:
    async def test_no_websocket(self, page: Page, served: Served, upstream: Puppet) -> None:
        code, heard = await page.evaluate(SOCKET, served.websocket)
        assert (code, heard) == (1008, [])
        await unharmed(served, upstream)

    @pytest.mark.parametrize("kind", SIMPLE)
    async def test_a_simple_post_asks_nothing(
        self, page: Page, served: Served, upstream: Puppet, kind: str
    ) -> None:
        for path in ("ask/evil", "conversations", "conversations/import"):
            for mode in ("no-cors", "cors"):
                told = await page.evaluate(
                    FETCH,
                    [
                        f"{served.http}/{path}",
                        {
                            "method": "POST",
                            "mode": mode,
                            "headers": {"content-type": kind},
                            "body": PROMPT,
                        },
                    ],
                )
                assert told in (["opaque", 0, ""], ["TypeError", 0, ""])
        await unharmed(served, upstream)

    async def test_what_needs_to_be_allowed_first_is_not(
        self, page: Page, served: Served, upstream: Puppet
    ) -> None:
        json = {"content-type": "application/json"}
        for method, path in (
            ("DELETE", "conversations/mine"),
            ("PATCH", "conversations/mine"),
            ("POST", "ask/evil"),
        ):
            body = None if method == "DELETE" else '{"title": "taken"}'
            options = {"method": method, "headers": json, "body": body}
            told = await page.evaluate(FETCH, [f"{served.http}/{path}", options])
            assert told == ["TypeError", 0, ""]
        await unharmed(served, upstream)

    @pytest.mark.parametrize("kind", [*SIMPLE, "multipart/form-data"])
    async def test_a_form_asks_nothing(
        self, page: Page, served: Served, upstream: Puppet, kind: str
    ) -> None:
        assert not await page.evaluate(FORM, [f"{served.http}/ask/evil", kind])
        await unharmed(served, upstream)

    async def test_a_beacon_asks_nothing(
        self, page: Page, served: Served, upstream: Puppet
    ) -> None:
        beacon = "([url, body]) => navigator.sendBeacon(url, body)"
        with capture_logs() as logs:
            assert await page.evaluate(beacon, [f"{served.http}/ask/evil", PROMPT])
            while not (requests := [log for log in logs if log["event"] == "request"]):
                await asyncio.sleep(0.01)
        assert [(log["method"], log["status"]) for log in requests] == [("POST", 403)]
        await unharmed(served, upstream)

    async def test_no_answer_can_be_read(self, page: Page, served: Served) -> None:
        for path in ("conversations", "conversations/mine", "", "healthz", "openapi.json"):
            url = f"{served.http}/{path}"
            assert await page.evaluate(FETCH, [url, {}]) == ["TypeError", 0, ""]
            told = await page.evaluate(FETCH, [url, {"mode": "no-cors"}])
            assert told in (["opaque", 0, ""], ["TypeError", 0, ""])
            assert not await page.evaluate(FRAME, url)

    async def test_nothing_of_ours_is_loaded(self, page: Page, served: Served) -> None:
        for tag, path in (
            ("script", "conversations"),
            ("script", "web/app.js"),
            ("img", "conversations"),
            ("link", "web/style/base.css"),
        ):
            assert await page.evaluate(LOAD, [tag, f"{served.http}/{path}"]) == "error"

    async def test_an_origin_without_a_name_is_none_of_ours(
        self, page: Page, served: Served, upstream: Puppet
    ) -> None:
        simple = {"method": "POST", "headers": {"content-type": "text/plain"}, "body": PROMPT}
        for options in ({}, simple):
            told = await page.evaluate(SANDBOX, [f"{served.http}/ask/evil", options])
            assert told == "TypeError"
        await unharmed(served, upstream)


class TestARebornName:
    async def test_its_host_is_refused(
        self, rebound: Page, served: Served, upstream: Puppet
    ) -> None:
        """It is our origin to the browser: answers can be read, and say no."""
        json: dict[str, Any] = {"headers": {"content-type": "application/json"}}
        for path, options in (
            ("/conversations", {}),
            ("/", {}),
            ("/healthz", {}),
            ("/ask/evil", {**json, "method": "POST", "body": PROMPT}),
            ("/conversations/mine", {"method": "DELETE"}),
        ):
            kind, status, text = await rebound.evaluate(FETCH, [path, options])
            assert (kind, status) == ("basic", 403)
            assert "permission_denied" in text
            assert SECRET not in text
        await unharmed(served, upstream)

    async def test_its_websocket_is_refused(
        self, rebound: Page, served: Served, upstream: Puppet
    ) -> None:
        port = served.websocket.rstrip("/").rpartition(":")[2]
        code, heard = await rebound.evaluate(SOCKET, f"ws://{EVIL}:{port}/")
        assert (code, heard) == (1008, [])
        await unharmed(served, upstream)


async def test_our_own_page_is_let_in(browser: Browser, served: Served, upstream: Puppet) -> None:
    """What is refused above is refused for whose it is, and not because it does not work."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{served.http}/")
    kind, status, text = await page.evaluate(FETCH, ["/conversations", {}])
    assert (kind, status) == ("basic", 200)
    assert SECRET in text
    await context.close()

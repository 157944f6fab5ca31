"""Takes the pictures of README.md: `python -m tools.pictures docs` makes page.png and terminal.svg.

A server of ours is asked on its real wires, in Chromium and in a terminal. What a model would say
is in pictures.toml, so that the pictures can be taken again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.request import Request, urlopen

from playwright.async_api import Page, ViewportSize, async_playwright, expect

from tests.clients.browser import ARGUMENTS, chromium
from tests.support.live import Process
from tests.support.shown import Desk
from tests.support.upstream_script import Exchange, Step, say
from tests.support.upstream_server import ScriptedUpstream
from tools import cast

_SCRIPT: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_MODEL = "gpt-4o-mini"
WINDOW: ViewportSize = {"width": 1200, "height": 900}


class _Pause(asyncio.Event):
    """What lies between two words of a model."""

    async def wait(self) -> Literal[True]:
        await asyncio.sleep(0.05)
        return True


async def _answered(exchange: Exchange) -> None:
    asked = exchange.request.body["messages"][-1]["content"]
    (answer,) = [talk["answer"] for talk in _SCRIPT["talk"] if asked.endswith(talk["question"])]
    words = answer.strip().split(" ")
    steps: list[Step] = [words[0]]
    for word in words[1:]:
        steps += [_Pause(), f" {word}"]
    await say(*steps, usage=(20 + len(asked) // 4, 2 * len(words)))(exchange)


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[Process]:
    async with ScriptedUpstream(models=(_MODEL,)) as upstream:
        upstream.otherwise = _answered
        base = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": upstream.base_url}
        async with Process(folder, env=base | {"TRIALOGUE_MODEL": _MODEL}) as server:
            yield server


async def terminal(folder: Path) -> str:
    """Return the cast of a terminal: terminal.svg."""
    script = _SCRIPT["cast"]
    async with _served(folder) as server:
        desk = Desk(folder / "desk", server)
        for name, text in script["files"].items():
            (desk.folder / name).write_text(text.lstrip())
        pieces = await cast.record(script["commands"], desk.folder, desk.env, desk.ports.shown)
    return cast.svg_of(pieces, script["title"])


async def page(folder: Path) -> bytes:
    """Return a picture of the page: page.png."""
    async with _served(folder) as server, async_playwright() as playwright:
        *others, here, elsewhere = [talk for talk in _SCRIPT["talk"] if "conversation" in talk]
        for talk in others:
            await asyncio.to_thread(_begun, server.http, talk)
            await asyncio.to_thread(_asked, server.http, talk)
        await asyncio.to_thread(_begun, server.http, here)
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        shown = await browser.new_page(viewport=WINDOW, color_scheme="light", locale="en")
        await shown.goto(f"{server.http}/#{here['conversation']}")
        await shown.get_by_role("textbox", name="Your question").fill(here["question"])
        await shown.get_by_role("button", name="Send").click()
        await _whole(shown, 1)
        await asyncio.to_thread(_asked, server.http, elsewhere)
        await _whole(shown, 2)
        picture = await shown.screenshot()
        await browser.close()
    return picture


async def _whole(shown: Page, answers: int) -> None:
    await expect(shown.locator("li.answer .about")).to_have_count(answers)
    await expect(shown.locator("li.answer .about").last).to_contain_text("tokens", timeout=30_000)
    await expect(shown.locator("li.answer math").first).to_be_visible()
    await expect(shown.locator(".hljs-keyword").first).to_be_visible()


def _begun(http: str, talk: dict[str, Any]) -> None:
    _post(f"{http}/conversations", {"id": talk["conversation"], "title": talk["title"]})


def _asked(http: str, talk: dict[str, Any]) -> None:
    _post(f"{http}/ask/{talk['conversation']}", {"prompt": talk["question"]})


def _post(url: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    urlopen(Request(url, json.dumps(body).encode(), headers)).close()  # noqa: S310 - our own server


async def take(into: Path) -> None:
    """Take both pictures."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        (into / "page.png").write_bytes(await page(Path(one)))
        (into / "terminal.svg").write_text(await terminal(Path(other)), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1])))

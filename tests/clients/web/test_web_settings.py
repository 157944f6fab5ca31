"""Settings, images, ways to go on elsewhere, and the keys of the page."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import FilePayload, Locator, Route, expect

from server.core.access.auth import EVERYONE
from server.core.prompt.characters import Character, Characters
from server.core.turns.questions import Ask
from storage.sqlite.store import SQLiteStore
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.access import locked
from tests.support.fakes import Puppet
from tests.support.live import ROOT, Served, serve

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

#: Puts an image on a place of the page, as a mouse or the clipboard would.
PUT = """([selector, kind, bytes]) => {
    const data = new DataTransfer();
    const content = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));
    data.items.add(new File([content], "dot.png", {type: "image/png"}));
    const event = kind === "drop"
        ? new DragEvent("drop", {dataTransfer: data, bubbles: true})
        : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
    document.querySelector(selector).dispatchEvent(event);
}"""


def png() -> bytes:
    """Return an image of one red dot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


async def opened(tab: Tab, button: str) -> Locator:
    await tab.page.get_by_role("button", name=button).click()
    dialog = tab.page.get_by_role("dialog", name=button)
    await expect(dialog).to_be_visible()
    return dialog


async def test_settings_of_a_conversation_are_kept_and_sent(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    upstream.answer("Red")
    turn = await served.conversations.ask(EVERYONE, "demo", Ask("Apples?"))
    await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/#demo")
    dialog = await opened(tab, "Settings")
    await dialog.get_by_role("combobox", name="Model").fill("gpt-4o-mini")
    await dialog.get_by_role("textbox", name="System prompt").fill("Be brief.")
    await dialog.get_by_role("spinbutton", name="Temperature").fill("0.3")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    upstream.answer("Green")
    await tab.ask("Pears?")
    await expect(tab.answers.last).to_have_text("Green")
    asked = upstream.prompts[-1]
    assert (asked.model, asked.temperature) == ("gpt-4o-mini", 0.3)
    assert asked.messages[0].content == "Be brief."
    await tab.page.reload()
    again = await opened(tab, "Settings")
    await expect(again.get_by_role("textbox", name="System prompt")).to_have_value("Be brief.")
    await again.get_by_role("spinbutton", name="Temperature").fill("")
    await again.get_by_role("textbox", name="System prompt").fill("")
    await again.get_by_role("button", name="Save").click()
    await expect(again).to_have_count(0)
    upstream.answer("Blue")
    await tab.ask("Plums?")
    await expect(tab.answers.last).to_have_text("Blue")
    asked = upstream.prompts[-1]
    assert asked.temperature is None
    assert asked.messages[0].role == "user"


class TestCharacters:
    @pytest_asyncio.fixture(loop_scope="module")
    async def served(self, store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
        pirates = Characters({"pirate": Character("You are a pirate.", "Arr!")})
        async with serve(store, upstream, characters=pirates) as server:
            yield server

    async def test_a_new_conversation_is_with_one_that_greets(
        self, tab: Tab, upstream: Puppet
    ) -> None:
        dialog = await opened(tab, "Settings")
        await dialog.get_by_role("textbox", name="Character").fill("pirate")
        await dialog.get_by_role("checkbox", name="Summarise").check()
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_have_count(0)
        upstream.answer("Aye").answer("Aye aye")
        await tab.ask("Rum?")
        await expect(tab.answers).to_have_text(["Arr!", "Aye"])
        assert str(upstream.prompts[-1].messages[0].content).startswith("You are a pirate.")
        await tab.ask("More?")
        await expect(tab.answers.last).to_have_text("Aye aye")
        again = await opened(tab, "Settings")
        await expect(again.get_by_role("textbox", name="Character")).to_have_count(0)
        await expect(again.get_by_role("checkbox", name="Summarise")).to_be_checked()

    async def test_what_an_imported_file_calls_one_is_none(
        self, tabs: Tabs, served: Served, upstream: Puppet
    ) -> None:
        odd = {"character": {"name": "pirate"}, "temperature": "hot"}
        await served.conversations.create(EVERYONE, id="odd", metadata=odd)
        tab = await tabs.open(f"{served.http}/#odd")
        await expect(tab.page.get_by_role("heading", name="odd")).to_be_visible()
        upstream.answer("Red")
        await tab.ask("Apples?")
        await expect(tab.answers).to_have_text("Red")


async def test_the_settings_stay_open_until_they_are_kept(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="demo")
    tab = await tabs.open(f"{served.http}/#demo")
    dialog = await opened(tab, "Settings")
    held: asyncio.Queue[Route] = asyncio.Queue()
    await tab.page.route("**/conversations/demo", held.put)
    prompt = dialog.get_by_role("textbox", name="System prompt")
    await prompt.fill("Be brief.")
    save = dialog.get_by_role("button", name="Save")
    await save.click()
    await (await held.get()).fulfill(status=400, json={"error": {"message": "It is too long."}})
    await expect(dialog.get_by_role("alert")).to_have_text("It is too long.")
    await expect(prompt).to_have_value("Be brief.")
    await save.click()
    await expect(save).to_be_disabled()
    await expect(dialog).to_be_visible()
    await (await held.get()).continue_()
    await expect(dialog).to_have_count(0)
    kept = await served.conversations.get(EVERYONE, "demo")
    assert kept.system_prompt == "Be brief."


async def test_a_new_conversation_is_made_of_its_settings(tab: Tab, upstream: Puppet) -> None:
    dialog = await opened(tab, "Settings")
    await dialog.get_by_role("textbox", name="System prompt").fill("Be brief.")
    await dialog.get_by_role("button", name="Save").click()
    await expect(tab.page.get_by_role("navigation").get_by_role("link")).to_have_count(2)
    upstream.answer("Red")
    await tab.ask("Apples?")
    await expect(tab.answers).to_have_text("Red")
    assert upstream.prompts[-1].messages[0].content == "Be brief."


async def test_a_theme_is_chosen_for_this_device(tab: Tab) -> None:
    dialog = await opened(tab, "Settings")
    paper = tab.page.locator("body")
    for name, colour in (("Dark", "rgb(20, 22, 29)"), ("Light", "rgb(255, 255, 255)")):
        await dialog.get_by_role("combobox", name="Theme").select_option(name)
        await expect(paper).to_have_css("background-color", colour)
    await dialog.get_by_role("combobox", name="Theme").select_option("Dark")
    await tab.page.reload()
    await expect(paper).to_have_css("background-color", "rgb(20, 22, 29)")


class TestKey:
    @pytest_asyncio.fixture(loop_scope="module")
    async def served(self, store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
        async with serve(store, upstream, auth=locked("ada:good")) as server:
            yield server

    async def test_a_key_stays_on_this_device_until_it_is_forgotten(
        self, tab: Tab, served: Served
    ) -> None:
        door = tab.page.get_by_role("dialog", name="This server needs an API key")
        await door.get_by_role("textbox", name="API key").fill("good")
        await door.get_by_role("checkbox", name="Keep it on this device").check()
        await door.get_by_role("button", name="Enter").click()
        await expect(door).to_be_hidden()
        await tab.page.evaluate("sessionStorage.clear()")
        await tab.page.reload()
        dialog = await opened(tab, "Settings")
        await expect(door).to_be_hidden()
        await dialog.get_by_role("button", name="Forget the key").click()
        await expect(door).to_be_visible()
        assert await tab.page.evaluate("Object.values(localStorage).includes('good')") is False


@pytest.mark.parametrize("how", ["button", "paste", "drop"])
async def test_an_image_is_sent_with_a_question(
    tab: Tab, served: Served, upstream: Puppet, how: str
) -> None:
    encoded = base64.b64encode(png()).decode()
    if how == "button":
        async with tab.page.expect_file_chooser() as choosing:
            await tab.page.get_by_role("button", name="Attach image").click()
        file: FilePayload = {"name": "dot.png", "mimeType": "image/png", "buffer": png()}
        await (await choosing.value).set_files(file)
    else:
        await tab.page.evaluate(PUT, ["#prompt", how, encoded])
    await expect(tab.page.get_by_role("button", name="Remove image")).to_be_visible()
    upstream.answer("A dot")
    await tab.ask("What is it?")
    await expect(tab.page.get_by_role("button", name="Remove image")).to_have_count(0)
    for _ in range(2):
        await expect(tab.answers).to_have_text("A dot")
        picture = tab.page.get_by_role("list", name="Messages").get_by_role("img", name="Image")
        await expect(picture).to_be_visible()
        assert await picture.evaluate("(one) => one.naturalWidth") == 1
        await tab.page.reload()
    url = f"data:image/png;base64,{encoded}"
    content: Any = upstream.prompts[-1].messages[-1].content
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[0]["image_url"]["url"] == url


async def test_an_image_is_taken_out_again(tab: Tab, upstream: Puppet) -> None:
    encoded = base64.b64encode(png()).decode()
    await tab.page.evaluate(PUT, ["#prompt", "paste", encoded])
    await tab.page.get_by_role("button", name="Remove image").click()
    upstream.answer("Nothing")
    await tab.ask("What is it?")
    await expect(tab.answers).to_have_text("Nothing")
    assert upstream.prompts[-1].messages[-1].content == "What is it?"


async def test_the_lines_of_open_elsewhere_go_on_with_this_conversation(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    tab = await tabs.open(f"{served.http}/#demo")
    upstream.answer("Here")
    await tab.ask("First")
    await expect(tab.answers).to_have_text("Here")
    dialog = await opened(tab, "Open elsewhere")
    blocks = dialog.locator(".code")
    named = dict(
        zip(
            await blocks.locator(".code-head > span").all_inner_texts(),
            await blocks.locator("code").all_inner_texts(),
            strict=True,
        )
    )
    assert list(named) == ["Address", "curl", "Python", "gRPC", "OpenAI’s API"]
    assert named["Address"] == f"{served.http}/#demo"
    answers = ["Here"]
    for name in ("curl", "Python", "gRPC"):
        upstream.answer(f"By {name}")
        answers.append(f"By {name}")
        assert f"By {name}" in await run(name, named[name])
        await expect(tab.answers).to_have_text(answers)
    other = await tabs.open(named["Address"])
    await expect(other.answers).to_have_text(answers)


async def test_no_line_of_open_elsewhere_runs_what_an_id_or_a_model_says(
    tabs: Tabs, served: Served, upstream: Puppet, tmp_path: Path
) -> None:
    """An id is whatever a link says, and a model's name whatever an imported file said."""
    made = tmp_path / "made"
    await served.conversations.create(EVERYONE, id="named", model=f"m'; touch {made}; '")
    for conversation_id in (f"a'$(touch {made})`touch {made}`", f"a;touch {made}", "named"):
        tab = await tabs.open(f"{served.http}/#{quote(conversation_id, safe='')}")
        dialog = await opened(tab, "Open elsewhere")
        for name in ("curl", "gRPC", "OpenAI’s API"):
            if conversation_id == "named":
                upstream.answer("Yes.")
            block = dialog.locator(".code").filter(has_text=name).first
            await run(name, await block.locator("code").inner_text())
        assert not made.exists(), conversation_id


async def run(name: str, line: str) -> str:
    """Run a line as a person would, and return what it prints."""
    words = [sys.executable, "-c", line] if name == "Python" else ["sh", "-c", line]
    places = (str(Path(sys.executable).parent), os.environ["PATH"])
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        env={"PATH": os.pathsep.join(places), "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return printed.decode()


async def test_the_keys_are_shown_and_begin_a_conversation(tabs: Tabs, served: Served) -> None:
    tab = await tabs.open(f"{served.http}/#demo")
    await tab.page.locator("body").press("?")
    dialog = tab.page.get_by_role("dialog", name="Keyboard")
    await expect(dialog.get_by_role("row", name="Shift + Enter")).to_be_visible()
    await tab.page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    field = tab.page.get_by_role("textbox", name="Your question")
    await field.press("?")
    await expect(field).to_have_value("?")
    await expect(dialog).to_have_count(0)
    await field.press("Control+Shift+O")
    await expect(tab.page.get_by_role("heading", name="New conversation")).to_be_visible()
    assert tab.page.url == f"{served.http}/#"


async def test_what_can_be_done_is_behind_one_button_on_a_phone(tabs: Tabs, served: Served) -> None:
    await served.conversations.create(EVERYONE, id="apples", title="Apples " * 10)
    size = {"width": 360, "height": 700}
    phone = await tabs.open(f"{served.http}/#apples", viewport=size, has_touch=True, is_mobile=True)
    more = phone.page.get_by_role("button", name="Actions")
    await expect(phone.page.get_by_role("button", name="Rename")).to_be_hidden()
    await more.tap()
    for name in ("Pin", "Rename", "Open elsewhere", "Export", "Delete"):
        await expect(phone.page.get_by_role("button", name=name)).to_be_in_viewport()
    await phone.page.get_by_role("button", name="Rename").tap()
    await expect(phone.page.get_by_role("dialog", name="Rename")).to_be_visible()
    await expect(phone.page.locator("#actions")).to_be_hidden()
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert await phone.page.evaluate(fits)

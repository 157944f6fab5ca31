"""The map of a conversation's branches."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, expect

from server.core.access.auth import EVERYONE
from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def ask(served: Served, upstream: Puppet, ask: Ask, answer: str) -> str:
    """Ask in `demo`, and return the id of the answer."""
    upstream.answer(answer)
    conversations: Conversations = served.conversations
    turn = await conversations.ask(EVERYONE, "demo", ask)
    await settled(conversations, turn.id)
    kept = (await conversations.turn(EVERYONE, turn.id)).answer_id
    assert kept is not None
    return kept


async def opened(tab: Tab) -> Locator:
    await tab.page.get_by_role("button", name="Branches").click()
    dialog = tab.page.get_by_role("dialog", name="Branches")
    await expect(dialog).to_be_visible()
    return dialog


def said(tab: Tab) -> Locator:
    listed = tab.page.get_by_role("list", name="Messages").get_by_role("listitem")
    return listed.locator(".text")


async def test_it_shows_all_branches_and_turns_to_them(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    red = await ask(served, upstream, Ask("Apples?"), "Red")
    await ask(served, upstream, Ask("Pears?"), "Green")
    await ask(served, upstream, Ask("Plums?", parent_id=red), "Blue")
    tab = await tabs.open(f"{served.http}/#demo")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Plums?", "Blue"])
    dialog = await opened(tab)
    items = dialog.get_by_role("tree", name="Branches").get_by_role("treeitem")
    names = [
        "Question: Apples?, 2 messages",
        "Question: Pears?, 2 messages",
        "Question: Plums?, 2 messages",
    ]
    for name, item in zip(names, await items.all(), strict=True):
        await expect(item).to_have_accessible_name(name)
    for at, (level, current) in enumerate([("1", "true"), ("2", None), ("2", "true")]):
        item = items.nth(at)
        await expect(item).to_have_attribute("aria-level", level)
        assert await item.get_attribute("aria-current") == current
    await items.nth(1).click()
    await expect(dialog).to_have_count(0)
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green"])
    dialog = await opened(tab)
    await expect(items.nth(1)).to_have_attribute("aria-current", "true")
    await expect(items.nth(2)).not_to_have_attribute("aria-current", "true")


async def test_it_is_walked_by_keys(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    red = await ask(served, upstream, Ask("Apples?"), "Red")
    await ask(served, upstream, Ask("Pears?"), "Green")
    await ask(served, upstream, Ask("Plums?", parent_id=red), "Blue")
    await ask(served, upstream, Ask("Lemons?", parent_id="root"), "Yellow")
    tab = await tabs.open(f"{served.http}/#demo")
    await expect(said(tab)).to_have_text(["Lemons?", "Yellow"])
    dialog = await opened(tab)
    press = tab.page.keyboard.press

    async def at(question: str) -> None:
        item = dialog.get_by_role("treeitem", name=f"Question: {question}")
        await expect(item).to_be_focused()

    await at("Lemons?")
    for key, question in (
        ("Home", "Apples?"),
        ("ArrowRight", "Pears?"),
        ("ArrowRight", "Pears?"),  # it has none within
        ("ArrowDown", "Plums?"),
        ("ArrowDown", "Lemons?"),
        ("ArrowDown", "Lemons?"),
        ("ArrowLeft", "Lemons?"),
        ("ArrowUp", "Plums?"),
        ("ArrowLeft", "Apples?"),
        ("End", "Lemons?"),
        ("ArrowUp", "Plums?"),
    ):
        await press(key)
        await at(question)
    await press("Shift+Tab")
    await expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    await press("Tab")
    await at("Plums?")
    await press("Enter")
    await expect(dialog).to_have_count(0)
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Plums?", "Blue"])


async def test_one_branch_is_told_so_and_nobodys_words_are_run(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    evil = '<img src=x onerror="document.title = 1"> **bold**\n' + "long " * 100
    await ask(served, upstream, Ask(evil), "No.")
    tab = await tabs.open(f"{served.http}/#demo", viewport={"width": 320, "height": 640})
    await expect(said(tab).last).to_have_text("No.")
    await tab.page.get_by_role("button", name="Actions").click()
    dialog = await opened(tab)
    await expect(dialog.get_by_text("There is one branch.")).to_be_visible()
    name = dialog.get_by_role("treeitem").locator(".name")
    assert (await name.inner_text()).startswith('<img src=x onerror="document.title = 1"> **bold**')
    await expect(dialog.locator("img")).to_have_count(0)
    assert await tab.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    body = dialog.locator(".body")
    assert await body.evaluate("(one) => one.scrollWidth <= one.clientWidth")


async def test_many_forks_are_drawn_at_once(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    """Each behind the other, as where every answer was asked for twice."""
    await ask(served, upstream, Ask("Question"), "Answer")
    tab = await tabs.blank()
    at = tab.page.context.request
    exported = await at.get(f"{served.http}/conversations/demo/export?format=json")
    file = await exported.json()
    question, answer = file["conversations"][0]["messages"]
    messages, leaf = [], None
    for n in range(1000):
        messages.append({**question, "id": f"msg_q{n}", "parent_id": leaf, "turn_id": None})
        for name in ("a", "b"):
            told = {"id": f"msg_{name}{n}", "parent_id": f"msg_q{n}", "turn_id": None}
            messages.append({**answer, **told})
        leaf = f"msg_a{n}"
    many = {"id": "many", "messages": messages, "turns": [], "head_id": leaf}
    file["conversations"][0] |= many
    report = await (await at.post(f"{served.http}/conversations/import", data=file)).json()
    assert report["imported"] == 1, report
    await tab.page.goto(f"{served.http}/#many")
    dialog = await opened(tab)
    await expect(dialog.get_by_role("treeitem")).to_have_count(2001)
    await tab.page.keyboard.press("Home")
    await expect(dialog.get_by_role("treeitem").first).to_be_focused()
    wide = await dialog.get_by_role("treeitem").nth(1999).bounding_box()
    assert wide is not None
    assert wide["width"] > 200

"""Branches of a conversation on the page: turned to, edited, regenerated, retried, copied."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Locator, expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from server.upstream.port import UpstreamFailedError
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


def said(tab: Tab) -> Any:
    """Return the messages that are shown."""
    return tab.page.get_by_role("list", name="Messages").get_by_role("listitem").locator(".text")


def message(tab: Tab, text: str) -> Locator:
    listed = tab.page.get_by_role("list", name="Messages").get_by_role("listitem")
    return listed.filter(has_text=text)


async def begun(tab: Tab, upstream: Puppet) -> None:
    """Ask two questions."""
    for question, answer in (("Apples?", "Red"), ("Pears?", "Green")):
        upstream.answer(answer)
        await tab.ask(question)
        await expect(tab.answers.last).to_have_text(answer)
        await tab.is_busy(False)


async def test_an_earlier_question_is_edited_and_both_branches_are_there(
    tab: Tab, upstream: Puppet
) -> None:
    await begun(tab, upstream)
    await message(tab, "Apples?").get_by_role("button", name="Edit").click()
    field = tab.page.get_by_role("textbox", name="Your question")
    await expect(field).to_have_value("Apples?")
    upstream.answer("Yellow")
    await field.fill("Lemons?")
    await tab.page.get_by_role("button", name="Send").click()
    await expect(said(tab)).to_have_text(["Lemons?", "Yellow"])
    await expect(message(tab, "Lemons?")).to_contain_text("2/2")
    await message(tab, "Lemons?").get_by_role("button", name="Previous answer").click()
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green"])
    await tab.page.reload()
    await expect(message(tab, "Apples?")).to_contain_text("1/2")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green"])
    upstream.answer("Blue")
    await tab.ask("Plums?")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green", "Plums?", "Blue"])


async def test_any_answer_is_regenerated_and_turned_back_to(tab: Tab, upstream: Puppet) -> None:
    await begun(tab, upstream)
    upstream.answer("Golden")
    await message(tab, "Red").get_by_role("button", name="Regenerate").click()
    await expect(said(tab)).to_have_text(["Apples?", "Golden"])
    await expect(message(tab, "Golden")).to_contain_text("2/2")
    back = message(tab, "Golden").get_by_role("button", name="Previous answer")
    await back.focus()
    await tab.page.keyboard.press("Enter")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green"])
    await message(tab, "Red").get_by_role("button", name="Next answer").click()
    await expect(said(tab)).to_have_text(["Apples?", "Golden"])


async def test_any_answer_is_given_by_another_model(tab: Tab, upstream: Puppet) -> None:
    await begun(tab, upstream)
    await message(tab, "Red").get_by_role("button", name="Another model").click()
    dialog = tab.page.get_by_role("dialog", name="Another model")
    await dialog.get_by_role("combobox", name="Model").fill("gpt-4o-mini")
    upstream.answer("Golden")
    await dialog.get_by_role("button", name="Answer again").click()
    await expect(said(tab)).to_have_text(["Apples?", "Golden"])
    await expect(message(tab, "Golden")).to_contain_text("2/2")
    await expect(message(tab, "Golden")).to_contain_text("gpt-4o-mini")
    assert upstream.prompts[-1].model == "gpt-4o-mini"


async def test_a_conversation_goes_on_from_any_answer(tab: Tab, upstream: Puppet) -> None:
    await begun(tab, upstream)
    goes_on = message(tab, "Green").get_by_role("button", name="Continue from here")
    await expect(goes_on).to_be_hidden()
    await tab.page.get_by_role("textbox", name="Your question").fill("Are they ripe?")
    await message(tab, "Red").get_by_role("button", name="Continue from here").click()
    upstream.answer("Soon")
    await tab.page.get_by_role("textbox", name="Your question").press("Enter")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Are they ripe?", "Soon"])
    await expect(message(tab, "Are they ripe?")).to_contain_text("2/2")
    await message(tab, "Are they ripe?").get_by_role("button", name="Previous answer").click()
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green"])


async def test_what_is_asked_in_another_branch_does_not_turn_the_page(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for answer in ("Red", "Golden", "Elsewhere"):
        upstream.answer(answer)
    first = await served.conversations.ask(EVERYONE, "demo", Ask("Apples?"))
    await settled(served.conversations, first.id)
    second = await served.conversations.ask(EVERYONE, "demo", Ask("Lemons?", parent_id="root"))
    await settled(served.conversations, second.id)
    tab = await tabs.open(f"{served.http}/#demo/{first.question_id}")
    await expect(said(tab)).to_have_text(["Apples?", "Red"])
    third = await served.conversations.ask(EVERYONE, "demo", Ask("More lemons?"))
    await settled(served.conversations, third.id)
    upstream.answer("Very red")
    await tab.ask("Really?")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Really?", "Very red"])


async def test_a_refused_question_leaves_the_page_in_its_branch(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    for answer in ("Red", "Golden", "Very red"):
        upstream.answer(answer)
    first = await served.conversations.ask(EVERYONE, "demo", Ask("Apples?"))
    await settled(served.conversations, first.id)
    second = await served.conversations.ask(EVERYONE, "demo", Ask("Lemons?", parent_id="root"))
    await settled(served.conversations, second.id)
    tab = await tabs.open(f"{served.http}/#demo/{first.question_id}")
    await expect(said(tab)).to_have_text(["Apples?", "Red"])
    await tab.ask("\x00")
    await expect(tab.page.locator("#trouble")).to_contain_text("NUL")
    await tab.ask("Really?")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Really?", "Very red"])


async def test_a_refused_edit_is_edited_further(tab: Tab, upstream: Puppet) -> None:
    await begun(tab, upstream)
    await message(tab, "Apples?").get_by_role("button", name="Edit").click()
    await tab.ask("\x00")
    await expect(tab.page.locator("#trouble")).to_contain_text("NUL")
    await expect(tab.page.locator("#editing")).to_be_visible()
    upstream.answer("Yellow")
    await tab.ask("Lemons?")
    await expect(said(tab)).to_have_text(["Lemons?", "Yellow"])


async def test_a_failed_question_is_retried_and_its_error_outlives_a_reload(
    tab: Tab, upstream: Puppet
) -> None:
    upstream.fail(UpstreamFailedError("The upstream broke."))
    await tab.ask("Apples?")
    failed = message(tab, "The upstream broke.")
    await expect(failed).to_be_visible()
    upstream.answer("Green")
    await tab.ask("Pears?")
    await expect(tab.answers.last).to_have_text("Green")
    await tab.page.reload()
    await expect(message(tab, "Green")).to_contain_text("tokens")
    upstream.answer("Red")
    await failed.get_by_role("button", name="Retry").click()
    await expect(said(tab)).to_have_text(["Apples?", "Red"])


async def test_footers_of_every_turn_are_there_after_a_reload(tab: Tab, upstream: Puppet) -> None:
    await begun(tab, upstream)
    await tab.page.reload()
    for answer in ("Red", "Green"):
        await expect(message(tab, answer)).to_contain_text("gpt-4o")


async def test_a_message_and_a_block_of_code_are_copied(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    tab = await tabs.open(f"{served.http}/", permissions=["clipboard-read", "clipboard-write"])
    whole = "Look:\n```sh\nls -l\n```"
    upstream.answer(whole)
    await tab.ask("How?")
    await message(tab, "Look:").get_by_role("button", name="Copy", exact=True).click()
    await expect(tab.page.get_by_text("Copied")).to_be_attached()
    assert await tab.page.evaluate("navigator.clipboard.readText()") == whole
    await tab.page.get_by_role("button", name="Copy code").click()
    await expect(tab.page.locator("#announcement")).to_have_text("Copied")
    await tab.page.wait_for_function("navigator.clipboard.readText().then((t) => t === 'ls -l')")


async def test_a_message_is_opened_with_all_that_came_behind_it(tab: Tab, upstream: Puppet) -> None:
    await begun(tab, upstream)
    first = await message(tab, "Red").get_attribute("data-message-id")
    upstream.answer("Blue")
    await tab.ask("Plums?")
    await expect(tab.answers.last).to_have_text("Blue")
    await tab.is_busy(False)
    await tab.page.evaluate("(id) => { location.hash += `/${id}`; }", first)
    await expect(tab.page.locator("li:focus")).to_contain_text("Red")
    await expect(said(tab)).to_have_text(["Apples?", "Red", "Pears?", "Green", "Plums?", "Blue"])

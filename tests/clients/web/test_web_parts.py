"""Answers of several parts on the page: reasoning, calls of tools and their results, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from server.core.turns.tools import ToolResult
from server.upstream.port import PromptProgress
from storage.model import Usage
from storage.parts import Kind, Part
from tests.clients.web.proxy import proxied
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.imports import imported
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

THINKING = Part(Kind.REASONING)
TEXT = Part(Kind.TEXT)
CALL = Part(Kind.TOOL_CALL, "call_a", "get_weather")
RESULT = Part(Kind.TOOL_RESULT, "call_a")


def items(tab: Tab, role: str) -> Any:
    return tab.page.get_by_role("list", name="Messages").locator(f"li[data-role={role}]")


async def test_reasoning_is_folded_away_while_it_streams_and_after_a_reload(
    tab: Tab, upstream: Puppet
) -> None:
    await tab.ask("Why?")
    upstream.say(THINKING, "Let me ")
    toggle = tab.page.get_by_role("button", name="Reasoning", exact=True)
    thoughts = items(tab, "assistant").locator(".aside")
    await expect(toggle).to_have_attribute("aria-expanded", "false")
    await expect(thoughts).to_be_hidden()
    await toggle.click()
    await expect(thoughts).to_have_text("Let me ")
    upstream.say("see.", TEXT, "Becau")
    await expect(thoughts).to_have_text("Let me see.")
    await expect(tab.answers).to_have_text("Becau")
    upstream.say("se.").finish(usage=Usage(9, 8, reasoning_tokens=3))
    await tab.is_busy(False)
    for _ in range(2):
        await expect(tab.answers).to_have_text("Because.")
        await expect(items(tab, "assistant")).to_contain_text("17 tokens, 3 of them reasoning")
        await expect(toggle).to_have_attribute("aria-expanded", "false")
        await toggle.press("Enter")
        await expect(thoughts).to_be_visible()
        await expect(thoughts).to_have_text("Let me see.")
        await tab.page.reload()


async def test_calls_and_their_results_are_cards(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    upstream.say("Looking. ", CALL, '{"city": ', '"Oslo"}').finish("tool_calls")
    upstream.answer("It is 18 C.")
    turn = await served.conversations.ask(EVERYONE, "demo", Ask("Weather?"))
    await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/#demo")
    card = tab.page.get_by_role("button", name="Call of get_weather")
    await expect(card).to_have_attribute("aria-expanded", "true")
    answered = Ask("", tool_results=(ToolResult("call_a", '{"celsius": 18}'),))
    await served.conversations.ask(EVERYONE, "demo", answered)
    for _ in range(2):
        await expect(tab.answers).to_have_text(["Looking.", "It is 18 C."])
        await expect(items(tab, "assistant").first).to_contain_text('{ "city": "Oslo" }')
        told = items(tab, "tool")
        await expect(told.get_by_role("button", name="Result of get_weather")).to_be_visible()
        await expect(told.locator("pre")).to_have_text('{ "celsius": 18 }')
        await tab.page.reload()


async def test_what_the_server_did_itself_stands_in_the_answer(tab: Tab, upstream: Puppet) -> None:
    upstream.answer(CALL, "{}", RESULT, "x" * 601, TEXT, "Done.")
    await tab.ask("Weather?")
    await expect(tab.answers).to_have_text("Done.")
    long = tab.page.get_by_role("button", name="Result of get_weather")
    await expect(long).to_have_attribute("aria-expanded", "false")
    await long.click()
    await expect(items(tab, "assistant").get_by_text("xxx")).to_be_visible()


async def test_a_refusal_is_shown_as_one_and_nothing_in_parts_is_run(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    attack = '<img src="x" onerror="document.title = 1">'
    upstream.answer(THINKING, attack, CALL, attack, RESULT, attack, Part(Kind.REFUSAL), attack)
    turn = await served.conversations.ask(EVERYONE, "demo", Ask("How?"))
    await settled(served.conversations, turn.id)
    tab = await tabs.open(f"{served.http}/#demo")
    await expect(tab.page.get_by_role("note", name="Refusal")).to_have_text(attack)
    await tab.page.get_by_role("button", name="Reasoning", exact=True).click()
    await expect(items(tab, "assistant").get_by_text(attack)).to_have_count(4)
    await expect(tab.page.locator("main img")).to_have_count(0)


async def test_parts_of_which_a_file_says_only_the_kind_are_named(
    tabs: Tabs, served: Served
) -> None:
    named = ["function", "custom", "tool_result", "refusal", "reasoning", "constructor"]
    await imported(served, "partly", *({"type": kind} for kind in named))
    tab = await tabs.open(f"{served.http}/#partly")
    await expect(tab.answers).to_have_text([f"[{kind}]" for kind in named])


async def test_a_lost_connection_goes_on_within_a_part(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    await tab.ask("Why?")
    upstream.say(THINKING, "Smile \N{GRINNING FACE}, ")
    thoughts = items(tab, "assistant").locator(".aside")
    await expect(thoughts).to_have_text("Smile \N{GRINNING FACE}, ")
    await proxy.cut()
    upstream.say("then ")
    await expect(thoughts).to_have_text("Smile \N{GRINNING FACE}, then ")
    await proxy.cut()
    upstream.say("think.", TEXT, "So.").finish()
    await expect(tab.answers).to_have_text("So.")
    await expect(thoughts).to_have_text("Smile \N{GRINNING FACE}, then think.")
    await tab.is_busy(False)


async def test_copied_is_the_text_alone(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    tab = await tabs.open(f"{served.http}/", permissions=["clipboard-read", "clipboard-write"])
    upstream.answer(THINKING, "Hm.", TEXT, "First.", CALL, "{}", TEXT, "Then.")
    await tab.ask("How?")
    await tab.is_busy(False)
    await items(tab, "assistant").get_by_role("button", name="Copy", exact=True).click()
    await expect(tab.page.get_by_text("Copied")).to_be_attached()
    assert await tab.page.evaluate("navigator.clipboard.readText()") == "First.\nThen."


async def test_how_far_the_prompt_is_read_is_shown_until_there_is_an_answer(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    proxy, tab = await proxied(tabs, served)
    about = items(tab, "assistant").locator(".about")
    await tab.ask("Why?")
    upstream.say(PromptProgress(410, 1172))
    await expect(about).to_have_text("reading 34 %")
    await proxy.cut()
    upstream.say(PromptProgress(820, 1172))
    await expect(about).to_have_text("reading 69 %")
    upstream.say("Be")
    await expect(tab.answers).to_have_text("Be")
    await expect(about).to_have_text("")
    upstream.say("cause.").finish()
    await expect(tab.answers).to_have_text("Because.")

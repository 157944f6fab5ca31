"""Markdown on the page: drawn while it grows, code coloured and copied; what attacks is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from storage.parts import Kind, Part
from tests.clients.web.commonmark import SHAPES, examples
from tests.clients.web.proxy import Held
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.clients.web.vectors import ATTACKS, MARKDOWN
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("libraries"),
]

KEPT = "document.querySelector('li.answer .text > :first-child').kept = true"
#: Counts the elements that are put in from now on.
COUNT = """window.added = 0; new MutationObserver((all) => {{
    for (const one of all) added += [...one.addedNodes].filter((node) => node.tagName).length;
}}).observe(document.querySelector("{within}"), {{ childList: true, subtree: true }})"""
IS_KEPT = "document.querySelector('li.answer .text > :first-child').kept === true"


async def answered(served: Served, upstream: Puppet, *pieces: str | Part) -> None:
    upstream.answer(*pieces)
    turn = await served.conversations.ask(EVERYONE, "demo", Ask("How?"))
    await settled(served.conversations, turn.id)


async def test_markdown_is_drawn_block_by_block_while_it_grows(tab: Tab, upstream: Puppet) -> None:
    await tab.ask("How?")
    upstream.say("# Sort\n\nThe *qui")
    await expect(tab.answers.locator("h1")).to_have_text("Sort")
    await expect(tab.answers.locator("p")).to_have_text("The *qui")
    await tab.page.evaluate(KEPT)
    upstream.say("ck* one:\n\n- a\n- b\n\n```python\nxs.so")
    await expect(tab.answers.locator("em")).to_have_text("quick")
    await expect(tab.answers.locator("li")).to_have_text(["a", "b"])
    await expect(tab.answers.locator("pre")).to_have_text("xs.so")
    assert await tab.page.evaluate(IS_KEPT)
    upstream.say("rt()\n```\n\nSee [here][x].\n\n[x]: https://example.com").finish()
    await expect(tab.answers.get_by_role("link", name="here")).to_be_visible()
    await expect(tab.answers.locator("pre")).to_have_text("xs.sort()")
    await tab.is_busy(False)
    await expect(tab.answers.locator("h1, p, ul, .code")).to_have_count(5)


async def test_what_stays_of_a_growing_block_stays_selected(tab: Tab, upstream: Puppet) -> None:
    await tab.ask("How?")
    upstream.say("1. one *fine*\n2. tw")
    await expect(tab.answers.locator("li")).to_have_count(2)
    await tab.page.evaluate("getSelection().selectAllChildren(document.querySelector('.text li'))")
    await tab.page.evaluate(COUNT.format(within=".text"))
    for number in range(3, 23):
        upstream.say(f"o\n{number}. anoth")
        await expect(tab.answers.locator("li")).to_have_count(number)
    assert await tab.page.evaluate("added") < 3 * 20
    assert await tab.page.evaluate("String(getSelection())") == "one fine"
    upstream.say("er\n\n```py\nx = ")
    await expect(tab.answers.locator("pre")).to_have_text("x =")
    upstream.say("1\n```\n").finish()
    await expect(tab.answers.locator("pre")).to_have_text("x = 1")
    await expect(tab.answers.locator("li").last).to_have_text("another")


async def test_the_code_that_is_copied_is_what_is_there(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    tab = await tabs.open(f"{served.http}/#demo", permissions=allowed)
    await tab.ask("How?")
    upstream.say("```\nfirst\n")
    await expect(tab.answers.locator("pre")).to_have_text("first")
    upstream.say("second\n")
    await expect(tab.answers.locator("pre")).to_contain_text("second")
    await tab.page.get_by_role("button", name="Copy code").click()
    await expect(tab.page.get_by_text("Copied")).to_be_attached()
    assert await tab.page.evaluate("navigator.clipboard.readText()") == "first\nsecond"
    upstream.finish()
    await tab.is_busy(False)


async def test_code_has_a_name_and_colours_and_is_copied(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    code = 'def f():\n    return "x"'
    await answered(served, upstream, f"```py\n{code}\n```\n\n```nonsense\nplain\n```")
    allowed = ["clipboard-read", "clipboard-write"]
    tab = await tabs.open(f"{served.http}/#demo", permissions=allowed)
    await expect(tab.answers.locator(".code-head > span")).to_have_text(["py", "nonsense"])
    await expect(tab.answers.locator(".hljs-keyword")).to_have_text(["def", "return"])
    await expect(tab.answers.locator("pre").last).to_have_text("plain")
    await tab.page.get_by_role("button", name="Copy code").first.click()
    await expect(tab.page.get_by_text("Copied")).to_be_attached()
    assert await tab.page.evaluate("navigator.clipboard.readText()") == code


async def test_lines_of_code_are_wrapped_on_this_device(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await answered(served, upstream, f"```\n{'word ' * 99}\n```\n\n```\n{'long' * 99}\n```")
    tab = await tabs.open(f"{served.http}/#demo")
    wide = "all => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    code, wrap = tab.answers.locator("pre"), tab.page.get_by_role("button", name="Wrap lines")
    await expect(code).to_have_count(2)
    assert await code.evaluate_all(wide) == 2
    await wrap.first.click()
    await expect(wrap.last).to_have_attribute("aria-pressed", "true")
    assert await code.evaluate_all(wide) == 0
    await tab.page.reload()
    await expect(wrap.first).to_have_attribute("aria-pressed", "true")
    assert await code.evaluate_all(wide) == 0
    await wrap.last.click()
    await expect(wrap.first).to_have_attribute("aria-pressed", "false")
    assert await code.evaluate_all(wide) == 2


async def test_a_table_is_one_and_a_link_opens_elsewhere(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    table = "| Fruit | Price |\n|---|--:|\n| Apple | 3 |"
    await answered(served, upstream, f"{table}\n\n[There](https://example.com) and [here](#demo)")
    tab = await tabs.open(f"{served.http}/#demo")
    cell = tab.page.get_by_role("table").get_by_role("cell", name="3")
    await expect(cell).to_have_css("text-align", "right")
    link = tab.answers.get_by_role("link")
    await expect(link).to_have_text("There")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")


async def test_markdown_becomes_what_it_says(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    for source, _, _ in MARKDOWN:
        await answered(served, upstream, source)
    tab = await tabs.open(f"{served.http}/#demo")
    await expect(tab.answers).to_have_count(len(MARKDOWN))
    await drawn(tab.page)
    for place, (_, selector, text) in enumerate(MARKDOWN):
        await expect(tab.answers.nth(place).locator(selector).first).to_have_text(text)


async def test_commonmark_s_examples_are_what_they_say_or_text(tabs: Tabs, served: Served) -> None:
    all_examples = examples()
    assert len(all_examples) > 600
    await imported(served, [one.written for one in all_examples])
    tab = await tabs.open(f"{served.http}/#imported")
    await expect(tab.answers).to_have_count(100)
    while await tab.answers.count() < len(all_examples):
        before = await tab.answers.count()
        await tab.page.get_by_role("button", name="Earlier messages").click()
        await expect(tab.answers).not_to_have_count(before)
    await drawn(tab.page)
    suspects = await tab.page.evaluate(SUSPECTS)
    assert [one for one in suspects if not one.startswith("<math")] == []
    # HTML is shown as text, and not compared.
    told = [None if "<" in one.written else one.html for one in all_examples]
    compared = [shapes for shapes in await tab.page.evaluate(SHAPES, told) if shapes]
    assert len(compared) > 500
    assert [shown for shown, expected in compared if shown != expected] == []


@pytest.mark.parametrize("attacks", [ATTACKS[::2], ATTACKS[1::2]], ids=["even", "odd"])
async def test_what_attacks_is_shown_and_never_run(
    tabs: Tabs, served: Served, upstream: Puppet, attacks: tuple[str, ...]
) -> None:
    for attack in attacks:
        await answered(served, upstream, Part(Kind.REASONING), attack, Part(Kind.TEXT), attack)
    await served.conversations.create(EVERYONE, id="titled", title=ATTACKS[1])
    tab = await tabs.open(f"{served.http}/#demo")
    await expect(tab.answers).to_have_count(len(attacks))
    await drawn(tab.page)
    await expect(tab.page.get_by_role("navigation").get_by_text(ATTACKS[1])).to_be_visible()
    assert await tab.page.evaluate(SUSPECTS) == []
    assert await tab.page.evaluate(PROVOKE) > len(attacks)
    assert await tab.page.evaluate("window.ran") is None
    shown = "\n".join(await tab.answers.all_text_contents())
    assert shown.count("window.ran") >= len(attacks) // 2


#: Does to all that is shown what a reader might, and counts it.
PROVOKE = """() => {
    const all = [...document.querySelectorAll("#messages .prose, #messages .prose *")];
    for (const one of all)
        for (const kind of ["mouseover", "focus", "load", "error", "toggle"])
            one.dispatchEvent(new Event(kind, {bubbles: true}));
    return all.length;
}"""
#: Whatever stands in a message and could run, load or change the page.
SUSPECTS = """() => [...document.querySelectorAll("#messages .prose *")].flatMap((one) => [
    ...(one.matches("script, style, iframe, object, embed, svg, math, form, input, link, meta,"
        + " base, img, video, audio") ? [one.outerHTML] : []),
    ...[...one.attributes].filter(({name, value}) => name.startsWith("on") || name === "style"
        || name === "id" || /^\\s*(javascript|vbscript|data):/i.test(value)).map((a) => a.name),
])"""


async def test_without_the_libraries_the_page_shows_text(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    tab = await tabs.blank()
    missing: list[str] = []

    async def refuse(route: Any) -> None:
        missing.append(route.request.url)
        await route.fulfill(status=404, body="")

    await tab.page.route("**/web/vendor/**", refuse)
    await tab.page.goto(f"{served.http}/")
    await tab.ask("How?")
    upstream.say("**So")
    await expect(tab.answers).to_have_text("**So")
    upstream.say("**\n```sh\nls\n```").finish()
    await expect(tab.page.get_by_role("button", name="Copy code")).to_be_visible()
    await expect(tab.answers).to_contain_text("**So**")
    await expect(tab.answers.locator("pre")).to_have_text("ls")
    assert missing


async def test_what_was_shown_before_markdown_came_is_drawn_anew(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    tab = await tabs.blank()
    held = Held(tab.page)
    await held.hold("**/markdown-it.js")
    await tab.page.goto(f"{served.http}/")
    upstream.answer("**One**")
    await tab.ask("First")
    await tab.is_busy(False)
    await tab.ask("Second")
    upstream.say("*Tw")
    await expect(tab.answers).to_have_text(["**One**", "*Tw"])
    await held.reached()
    await held.let_go()
    await expect(tab.answers.locator("strong")).to_have_text("One")
    upstream.say("o*").finish()
    await expect(tab.answers.locator("em")).to_have_text("Two")


async def test_the_page_is_light_and_kept(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    await answered(served, upstream, "```python\npass\n```\n\n```js\nlet x;\n```")
    tab = await tabs.blank()
    await tab.page.goto(f"{served.http}/#demo")
    await expect(tab.answers.locator(".hljs-keyword")).to_have_text(["pass", "let"])
    first = await tab.page.evaluate(SIZES)
    assert 50_000 < sum(first.values()) < 250_000
    await tab.page.reload()
    await expect(tab.answers.locator(".hljs-keyword")).to_have_text(["pass", "let"])
    again = await tab.page.evaluate(SIZES)
    assert again.keys() == first.keys()
    assert {path: size for path, size in again.items() if size > 1_000} == {}


#: Bytes over the wire, with their headers, of each file of the page.
SIZES = """() => Object.fromEntries(
    ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
        .map((one) => [new URL(one.name).pathname, one.transferSize])
        .filter(([path]) => path === "/" || path.startsWith("/web/")))"""


async def imported(served: Served, answers: Sequence[str]) -> None:
    """Import a conversation that is nothing but answers."""
    at = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    messages = [
        {"id": f"m{number}", "parent_id": f"m{number - 1}" if number else None, "content": said}
        | {"role": "assistant", "created_at": at["created_at"]}
        for number, said in enumerate(answers)
    ]
    told = {"id": "imported", "title": "", "messages": messages, "head_id": messages[-1]["id"]}
    async with httpx2.AsyncClient(base_url=served.http) as client:
        shape = (await client.get("/export?format=json")).json()
        file = {**shape, "conversations": [{**told, **at}]}
        report = (await client.post("/conversations/import", json=file)).json()
    assert report["imported"] == 1, report


async def drawn(page: Page) -> None:
    """Wait until Markdown was loaded and drawn."""
    await expect(page.locator("li.answer .text.markdown").last).to_be_attached()

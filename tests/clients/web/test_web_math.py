"""Math on the page: TeX becomes MathML; money, code and what attacks stay what they are."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("libraries"),
]

#: What is written, what MathML says of it, and whether it stands by itself.
MATH = [
    ("So $x^2 + 1$.", "x2+1", False),
    (r"So \(\frac{a}{b}\), then", "ab", False),
    ("$$\nE = mc^2\n$$", "E=mc2", True),
    ("$$a \\le b$$", "a≤b", True),
    ("\\[\n\\sum_{i=1}^n i\n\\]", "∑i=1ni", True),
    ("- item\n\n  $$\n  y\n  $$", "y", True),
    ("> $$\n> z\n> $$", "z", True),
    ("| a |\n|---|\n| $q_1$ |", "q1", False),
    ("$\\text{**not bold** <b>}$", "**not bold** <b>", False),
]
NONE = [
    "It costs $5, and that $10.",
    "From $5 to $6 and back",
    "$ x $ and $x $",
    "`$x$` and `\\(y\\)`",
    "```\n$$\nx\n$$\n```",
    "    $$\n    x\n    $$",
    "\\$x\\$",
    "$$",
    "$$\n\n$$",
    "\\(never ended",
    "$x\ny$",
]
#: What cannot be drawn stays as it was written.
BROKEN = ["$\\frac{a$", "$\\nonsense{x}$", "$$\\begin{matrix} a$$", "$\\def\\a{\\a\\a}\\a$"]
#: The first of what attacks would lead or load elsewhere, or name what is the page's.
REFUSED = 7
ATTACKS = [
    r"$\href{javascript:window.ran = 1}{x}$",
    r"$\url{https://evil.example}$",
    r"$\includegraphics{https://evil.example/x.png}$",
    r"$\htmlClass{main}{x}$",
    r"$\htmlId{prompt}{x}$",
    r"$\htmlStyle{position: fixed}{x}$",
    r"$\htmlData{x=1}{x}$",
    r"$\text{<img src=x onerror=window.ran=1>}$",
    r"$\text{</annotation></semantics></math><img src=x onerror=window.ran=1>}$",
    "$x</span><img src=x onerror=window.ran=1>$",
    r"$\rule{99999em}{99999em}$",
    r"$\hspace{-2000em}\color{red}\text{Enter your key}$",
    r"$\raisebox{500em}{Enter your key}$",
    r"$\kern-500em x$",
    "$$" + "{" * 1900 + "}" * 1900 + "$$",
    "$" + "x^{" * 600 + "}" * 600 + "$",
    "\\(" * 5000,
    "$$\n" * 3000,
]
#: Whatever of math is no MathML, or could run, load, lead elsewhere or be taken for the page's.
SUSPECTS = """() => [...document.querySelectorAll(".math *")].flatMap((one) => [
    ...(one.namespaceURI.endsWith("/MathML") && !one.matches("annotation, annotation-xml, maction")
        ? [] : [one.outerHTML]),
    ...[...one.attributes].filter(({ name }) => name.startsWith("on") || name.startsWith("data")
        || ["style", "class", "id", "href", "xlink:href", "src"].includes(name))
        .map(({ name }) => name),
])"""


async def answered(served: Served, upstream: Puppet, *answers: str) -> None:
    for answer in answers:
        upstream.answer(answer)
        turn = await served.conversations.ask(EVERYONE, "demo", Ask("How?"))
        await settled(served.conversations, turn.id)


async def shown(tabs: Tabs, served: Served, count: int, asked: list[str] | None = None) -> Tab:
    tab = await tabs.blank()
    tab.page.on("request", lambda one: asked.append(one.url) if asked is not None else None)
    await tab.page.goto(f"{served.http}/#demo")
    await expect(tab.answers).to_have_count(count)
    await expect(tab.page.locator("li.answer .text.markdown")).to_have_count(count)
    return tab


async def test_tex_becomes_mathml(tabs: Tabs, served: Served, upstream: Puppet) -> None:
    await answered(served, upstream, *(source for source, _, _ in MATH))
    asked: list[str] = []
    tab = await shown(tabs, served, len(MATH), asked)
    for place, (source, text, display) in enumerate(MATH):
        math = tab.answers.nth(place).locator("math")
        await expect(math).to_have_count(1)
        said = "".join((await math.text_content() or "").split())
        assert said.replace("\u2061", "") == "".join(text.split()), source
        assert (await math.get_attribute("display") == "block") == display, source
    assert [one for one in asked if not one.startswith((served.http, "data:"))] == []
    assert [one.rpartition("/")[2] for one in asked].count("katex.js") == 1


async def test_money_code_and_what_is_escaped_are_none(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    """And what draws math is not even loaded."""
    await answered(served, upstream, *NONE, "**end**")
    asked: list[str] = []
    tab = await shown(tabs, served, len(NONE) + 1, asked)
    await expect(tab.answers.last.locator("strong")).to_have_text("end")
    await expect(tab.page.locator(".math")).to_have_count(0)
    assert [one for one in asked if "katex" in one] == []


async def test_what_cannot_be_drawn_stays_as_it_was_written(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await answered(served, upstream, *BROKEN, "$x$")
    tab = await shown(tabs, served, len(BROKEN) + 1)
    await expect(tab.answers.last.locator("math")).to_have_text("x")
    for place, source in enumerate(BROKEN):
        await expect(tab.answers.nth(place).locator(".math")).to_have_text(source)


async def test_without_the_library_it_is_as_it_was_written(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await answered(served, upstream, "So **$x^2$** is\n\n$$\ny\n$$")
    tab = await tabs.blank()
    await tab.page.route("**/katex.js", lambda route: route.fulfill(status=404))
    async with tab.page.expect_response("**/katex.js"):
        await tab.page.goto(f"{served.http}/#demo")
    await expect(tab.answers.locator("strong .math")).to_have_text("$x^2$")
    await expect(tab.answers.locator(".math.display")).to_have_text("$$ y $$")
    await expect(tab.page.locator("math")).to_have_count(0)


async def test_it_is_drawn_when_its_block_is_whole(tab: Tab, upstream: Puppet) -> None:
    await tab.ask("How?")
    upstream.say("So $x^")
    await expect(tab.answers).to_have_text("So $x^")
    upstream.say("2$")
    await expect(tab.answers.locator(".math")).to_have_text("$x^2$")
    upstream.say("\n\nThen")
    await expect(tab.answers.locator("math")).to_have_text("x2")
    upstream.say(" $y$").finish()
    await tab.is_busy(False)
    await expect(tab.answers.locator("math")).to_have_text(["x2", "y"])


async def test_what_is_wide_is_scrolled_in_its_place(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    long = " + ".join(f"a_{{{n}}}" for n in range(60))
    await answered(served, upstream, f"So ${long}$.", f"$${long}$$", "So $x$.")
    tab = await shown(tabs, served, 3)
    for place in (0, 1):
        math = tab.answers.nth(place).locator(".math")
        await expect(math).to_have_css("overflow-x", "auto")
        await math.focus()
        await expect(math).to_be_focused()
    await expect(tab.answers.nth(2).locator(".math:has(math)")).not_to_have_attribute(
        "tabindex", "0"
    )
    assert await tab.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


async def test_what_attacks_by_math_is_shown_and_stays_in_its_place(
    tabs: Tabs, served: Served, upstream: Puppet
) -> None:
    await answered(served, upstream, *ATTACKS, "$x$")
    tab = await shown(tabs, served, len(ATTACKS) + 1)
    await expect(tab.answers.last.locator("math")).to_have_text("x")
    assert await tab.page.evaluate(SUSPECTS) == []
    assert await tab.page.evaluate("window.ran") is None
    for place, attack in enumerate(ATTACKS[:REFUSED]):
        await expect(tab.answers.nth(place)).to_have_text(attack)
    await expect(tab.page.locator("main img")).to_have_count(0)
    for place in range(len(ATTACKS)):
        for math in await tab.answers.nth(place).locator(".math").all():
            await expect(math).to_have_css("contain", "paint")
            box, room = await math.bounding_box(), await tab.answers.nth(place).bounding_box()
            assert box is not None
            assert room is not None
            assert (
                room["x"] - 1
                <= box["x"]
                <= box["x"] + box["width"]
                <= room["x"] + room["width"] + 1
            )
    assert await tab.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    await expect(tab.page.get_by_role("button", name="Send")).to_be_in_viewport()

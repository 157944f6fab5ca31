"""The page for everybody: axe-core finds nothing in any view, dark or light, desktop or phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from server.core.access.auth import EVERYONE
from server.core.turns.questions import Ask
from storage.parts import Kind, Part
from tests.clients.web.libraries import LIBRARIES, needed
from tests.clients.web.tabs import Tab, Tabs, settled
from tests.support.fakes import Puppet
from tests.support.live import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

#: Asks axe-core, and names what it found with where. The meter of the window is named `Context`
#: whatever it shows: that is a contract, and its number is no name.
RUN = """axe.run({rules: {"label-content-name-mismatch": {enabled: false}}}).then(
    ({violations}) => violations.map(
        ({id, nodes}) => `${id}: ${nodes.map(({html}) => html.slice(0, 200)).join(" | ")}`))"""
ANSWER = """\
# One

A [link](https://example.com), `code` and a list:

- first
- *second*

```python
def f(): return "x"  # nothing
```

| Fruit | Price |
|---|--:|
| Apple | 3 |

> Said by somebody, as $x^2$.

$$
\\frac{a}{b}
$$
"""
SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1200, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True},
}
#: How each view is opened, and which dialog that is.
DIALOGS = {
    "#search": "Search",
    "#settings": "Settings",
    "#keys": "Keyboard",
    "#map": "Branches",
    "#elsewhere": "Open elsewhere",
    "#export": "Export",
    "#rename": "Rename",
    "#context": "Context",
    "li.answer:nth-child(2) [data-does=another]": "Another model",
}


async def faults(page: Page, view: str) -> list[str]:
    await page.evaluate(f"window.axe || {(LIBRARIES / 'axe-core/axe.min.js').read_text()}")
    return [f"{view}: {one}" for one in await page.evaluate(RUN)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_no_view_keeps_anybody_out(
    tabs: Tabs, served: Served, upstream: Puppet, size: str, scheme: str
) -> None:
    needed()
    await told(served, upstream)
    tab = await tabs.open(f"{served.http}/#demo", color_scheme=scheme, **SIZES[size])
    await expect(tab.answers.locator(".hljs-keyword").first).to_be_visible()
    for fold in await tab.page.locator(".fold > button[aria-expanded=false]").all():
        await fold.click()
    await send(tab, "And now?")
    upstream.say("Let me")
    await expect(tab.answers.last).to_have_text("Let me")
    await send(tab, "And then?")
    await expect(tab.page.get_by_role("button", name="Withdraw")).to_be_visible()
    found = await faults(tab.page, "a conversation")
    upstream.finish().answer("Yes.")
    await expect(tab.answers.last).to_have_text("Yes.")
    for opener, name in DIALOGS.items():
        await reached(tab, opener)
        await tab.page.locator(opener).click()
        await expect(tab.page.get_by_role("dialog", name=name)).to_be_visible()
        found += await faults(tab.page, name)
        await tab.page.keyboard.press("Escape")
    await tab.page.goto(f"{served.http}/#")
    await expect(tab.page.locator("#empty")).to_be_visible()
    found += await faults(tab.page, "nothing yet")
    assert found == []


async def send(tab: Tab, prompt: str) -> None:
    """Ask as on a touch screen, where Enter is a new line."""
    await tab.page.get_by_role("textbox", name="Your question").fill(prompt)
    await tab.page.get_by_role("button", name="Send").click()


async def told(served: Served, upstream: Puppet) -> None:
    """Have something of all that an answer can be made of."""
    call = Part(Kind.TOOL_CALL, "call_a", "look")
    thinking, text, refusing = Part(Kind.REASONING), Part(Kind.TEXT), Part(Kind.REFUSAL)
    upstream.answer(thinking, "Hm.", text, ANSWER, call, "{}", refusing, "No.")
    turn = await served.conversations.ask(EVERYONE, "demo", Ask("How?"))
    await settled(served.conversations, turn.id)


async def reached(tab: Tab, opener: str) -> None:
    """Open what a button is behind, on a narrow screen."""
    button = tab.page.locator(opener)
    for door in ("#menu", "#more-actions"):
        if not await button.is_visible() and await tab.page.locator(door).is_visible():
            within = "#sidebar" if door == "#menu" else "#actions"
            if await tab.page.locator(f"{within} {opener}").count():
                await tab.page.locator(door).click()
                await expect(button).to_be_in_viewport()

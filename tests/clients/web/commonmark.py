"""CommonMark's own examples, which npm brings: what is written, and the HTML that it stands for."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.clients.web.libraries import LIBRARIES

_EXAMPLE = re.compile(r"^`{32} example\n([\s\S]*?)^\.\n([\s\S]*?)^`{32}$", re.MULTILINE)
#: Compares what is shown with HTML that nobody runs: the same words in the same elements. Lines are
#: kept, a picture is its name, links lead elsewhere alone, and code has a frame.
SHAPES = """(expected) => {
    const put = (root, kind, by) =>
        root.querySelectorAll(kind).forEach((one) => one.replaceWith(...by(one)));
    const shape = (root) => {
        put(root, ".code-head, br", () => []);
        put(root, ".code", (one) => [one.querySelector("pre")]);
        put(root, "pre > code", (one) => [one.textContent]);
        put(root, "img", (one) => [one.alt || one.getAttribute("src")]);
        put(root, "a", (one) => one.childNodes);
        for (const one of root.querySelectorAll("*"))
            for (const name of one.getAttributeNames())
                if (name !== "start") one.removeAttribute(name);
        const html = root.innerHTML.replace(/>\\s+|\\s+</g, (at) => at.trim());
        return html.replace(/\\s+/g, " ").trim();
    };
    const shown = [...document.querySelectorAll("li.answer .text")];
    return expected.map((html, place) => {
        if (html === null) return null;
        const told = new DOMParser().parseFromString(html, "text/html").body;
        return [shape(shown[place].cloneNode(true)), shape(told)];
    });
}"""


class Example(NamedTuple):
    written: str
    html: str


def examples() -> list[Example]:
    """Return all, in their order."""
    text = (LIBRARIES / "commonmark-spec/spec.txt").read_text(encoding="utf-8")
    found = _EXAMPLE.findall(text.partition("<!-- END TESTS -->")[0])
    return [Example(*(part.replace("→", "\t") for part in one)) for one in found]

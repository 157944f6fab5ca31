"""The pictures of README.md can be taken again, and the cast shows what is printed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.clients.web.libraries import needed
from tests.support.live import ROOT
from tools import cast, pictures

DOCS = ROOT / "docs"
LARGEST = 120_000


def size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


async def test_the_cast_shows_what_is_printed(tmp_path: Path) -> None:
    kept = (DOCS / "terminal.svg").read_text(encoding="utf-8")
    taken = await pictures.terminal(tmp_path)
    assert cast.text_of(kept) == cast.text_of(taken), "run: python -m tools.pictures docs"


def test_all_of_the_cast_is_shown_by_itself_within_its_length() -> None:
    drawn = ElementTree.fromstring((DOCS / "terminal.svg").read_text(encoding="utf-8"))
    (clock,) = [one for one in drawn.iter() if one.get("id") == "a"]
    groups = [one for one in drawn if one.get("visibility") == "hidden"]
    shown = [re.fullmatch(r"a\.begin\+([\d.]+)s", group[0].get("begin", "")) for group in groups]
    times = [float(one[1]) for one in shown if one]
    assert len(times) == len(groups) > 10
    assert times == sorted(times)
    assert times[-1] < float(clock.get("dur", "").removesuffix("s"))


@pytest.mark.browser
@pytest.mark.slow
async def test_the_picture_of_the_page_is_what_can_be_taken(tmp_path: Path) -> None:
    needed()
    kept = (DOCS / "page.png").read_bytes()
    assert size(await pictures.page(tmp_path)) == size(kept) == tuple(pictures.WINDOW.values())


@pytest.mark.parametrize("name", ["page.png", "terminal.svg"])
def test_a_picture_is_shown_and_small(name: str) -> None:
    assert f"(docs/{name})" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (DOCS / name).stat().st_size < LARGEST

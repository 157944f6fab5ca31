"""What the documents name is there: every path, module, link and folder."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import ROOT
from tests.support.shown import blocks, text_of

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *(*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")),
        ROOT / "docs" / "llms.txt",
    )
)
#: folders at the top, by which a path is known for one of ours
TOP = "bench|bin|clients|docs|examples|proto|server|storage|tests|tools"
PATH = re.compile(rf"(?<![\w./:@-])((?:{TOP})/[\w./-]*\w)")
NAME = re.compile(r"`([\w-]+\.(?:py|sql|toml|lock|proto|yaml|md))`")
MODULE = re.compile(r"python -m ((?:bench|tests|tools)[.\w]*)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]*))?\)")
#: a word of the code: `setting(…)`, `Settings`, `ADAPTERS`, `scope="module"`
WORD = re.compile(r"`([A-Za-z_]\w*)(?=[(=`])")
#: what users have, and we have not
THEIRS = {"trialogue.toml"}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_is_there(page: str) -> None:
    missing = [path for path in PATH.findall(text_of(page)) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_without_its_folder_is_there(page: str) -> None:
    names = set(NAME.findall(text_of(page))) - THEIRS
    folders = (ROOT, *(ROOT / folder for folder in TOP.split("|")))
    found = {path.name for folder in folders[1:] for path in folder.rglob("*")}
    found |= {path.name for path in ROOT.iterdir()}
    found |= {str(block.file) for block in blocks(text_of(page))}
    assert names - found == set()


def test_every_word_of_the_code_that_contributors_are_told_is_there() -> None:
    files = (path for top in TOP.split("|") for path in (ROOT / top).rglob("*"))
    code = "".join(path.read_text() for path in files if path.suffix in (".py", ".proto", ".lock"))
    words = {*re.findall(r"\w+", code), *TOP.split("|")}
    assert set(WORD.findall(text_of("CONTRIBUTING.md"))) - words == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_is_to_be_run_is_there(page: str) -> None:
    for module in MODULE.findall(text_of(page)):
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for path, anchor in LINK.findall(text_of(page)):
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), path
        if anchor:
            assert anchor in anchors(there), f"{path}#{anchor}"


@pytest.mark.parametrize("page", ["README.md", "docs/llms.txt"])
def test_every_page_is_found_from_where_people_begin(page: str) -> None:
    folder = (ROOT / page).parent
    linked = {(folder / path).resolve() for path, _ in LINK.findall(text_of(page)) if path}
    pages = {path.resolve() for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.asyncapi.*"))}
    assert pages - linked == set()


def tree() -> Iterator[tuple[str, str]]:
    """Yield the folders of the drawn tree, each with what stands beside it."""
    drawn = text_of("docs/architecture.md").partition("## Tree")[2].split("```")[1]
    folder, about = "", ""
    for line in drawn.strip().splitlines():
        begun = re.match(r"(\S+)/ +(.*)", line)
        if begun:
            if folder:
                yield folder, about
            folder, about = begun[1], begun[2]
        else:
            about += " " + line.strip()
    yield folder, about


def test_the_drawn_tree_has_every_folder_and_no_other() -> None:
    drawn = dict(tree())
    assert [folder for folder in drawn if not (ROOT / folder).is_dir()] == []
    there = {
        str(module.parent.relative_to(ROOT))
        for top in ("server", "storage", "clients", "tools", "bench")
        for module in (ROOT / top).rglob("*.py")
        if "node_modules" not in module.parts
    }
    assert there - drawn.keys() == set()


def test_the_files_of_the_drawn_tree_are_in_their_folders() -> None:
    for folder, about in tree():
        for name in re.findall(r"\b\w+\.py\b", about):
            assert (ROOT / folder / name).is_file(), f"{folder}/{name}"

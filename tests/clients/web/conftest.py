"""A Chromium, and tabs of it that show a live server's page."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from storage.sqlite.store import SQLiteStore
from tests.clients.browser import ARGUMENTS, chromium
from tests.clients.web.libraries import needed
from tests.clients.web.tabs import Tab, Tabs
from tests.support.fakes import Puppet
from tests.support.live import Served, serve


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    expect.set_options(timeout=30_000)  # a machine may be busy with other tests
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium(),
            args=list(ARGUMENTS),
            env={**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))},
        )
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(tmp_path / "history.db") as opened_store:
        yield opened_store


@pytest_asyncio.fixture(loop_scope="module")
async def served(store: SQLiteStore, upstream: Puppet) -> AsyncIterator[Served]:
    async with serve(store, upstream) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def tabs(browser: Browser, served: Served) -> AsyncIterator[Tabs]:
    """Tabs that are closed before the server is, and must have nothing to complain about."""
    opened = Tabs(browser)
    yield opened
    assert await opened.close() == []


@pytest_asyncio.fixture(loop_scope="module")
async def tab(tabs: Tabs, served: Served) -> Tab:
    """A tab that shows a new conversation."""
    return await tabs.open(f"{served.http}/")


@pytest.fixture
def libraries() -> None:
    """What npm installs for the page is there."""
    needed()

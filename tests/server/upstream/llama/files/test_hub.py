"""What a hub says that is not what a hub says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.upstream.llama.files.hub import Hit, Hub, Repo
from server.upstream.llama.files.library import ModelFileError
from server.upstream.llama.files.web import Web
from tests.support.fake_hub import REPO, FakeHub, fake_hub


@pytest.fixture
async def served() -> AsyncIterator[FakeHub]:
    async with fake_hub(b"") as made:
        yield made


@pytest.fixture
async def hub(served: FakeHub) -> AsyncIterator[Hub]:
    web = Web()
    yield Hub(web, served.address)
    await web.close()


@pytest.mark.parametrize("downloads", ["many", [1], None, 1e999])
async def test_downloads_that_are_no_number_are_none(
    served: FakeHub, hub: Hub, downloads: object
) -> None:
    served.found = [{"id": REPO, "downloads": downloads}, 5, {}]
    assert await hub.search("tiny", 5) == [Hit(REPO, 0, gated=False)]


@pytest.mark.parametrize("siblings", [5, "files", [5], {"a": 1}])
async def test_files_that_are_no_list_are_none(served: FakeHub, hub: Hub, siblings: object) -> None:
    served.siblings = siblings
    with pytest.raises(ModelFileError, match="no GGUF file"):
        await hub.wanted(Repo(REPO, None, "main"))

"""Fixtures of pulling models: a hub that has one, and a folder for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.upstream.llama.files.library import Library
from tests.support.fake_hub import FakeHub, fake_hub
from tests.support.tiny_gguf import tiny_gguf


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


@pytest.fixture
async def hub(data: bytes) -> AsyncIterator[FakeHub]:
    async with fake_hub(data) as served:
        yield served


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "models")

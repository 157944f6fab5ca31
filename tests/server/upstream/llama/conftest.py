"""Local models for tests: a folder with some, and a host that loads them by the real engine."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from server.config.tables import LocalTable
from server.upstream.llama.engine import Engine, find
from server.upstream.llama.files.library import Library
from server.upstream.llama.host import Host
from server.upstream.llama.local_model import LocalModel
from tests.server.upstream.llama.making import Make


@pytest.fixture
def library(tiny_model: Path, tmp_path: Path) -> Library:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copy(tiny_model, folder / f"{name}.gguf")
    return Library(folder)


@pytest.fixture
async def local(library: Library) -> AsyncIterator[Make]:
    """Make models of one host; what is said at the first of them holds for all."""
    async with AsyncExitStack() as stack:
        host: Host | None = None

        def make(
            name: str = "one", engine: Engine | None = None, available: Any = None, **options: Any
        ) -> LocalModel:
            nonlocal host
            if host is None:
                table = LocalTable.model_validate({"context": 2048, "threads": 1, **options})
                bound = {"available": available} if available else {}
                host = Host(library, engine or find("wheel", None), table, **bound)
                stack.push_async_callback(host.close)
            model = LocalModel(host, name, backoff=0)
            stack.push_async_callback(model.close)
            return model

        yield make
